;; A web server as `wasi:http` has them: it answers requests and handles no events. Its `types` are cut down.
(component
  (import "wasi:http/types@0.2.0" (instance
    (export "http-error-code" (func (param "code" u32) (result u32)))))
  (core module $code (func (export "handle")))
  (core instance $code (instantiate $code))
  (func $handle (canon lift (core func $code "handle")))
  (instance $incoming (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $incoming)))
