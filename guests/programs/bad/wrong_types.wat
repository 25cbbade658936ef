;; Exports the handler, but `handle` takes a string instead of an event and returns nothing.
(component
  (core module $code
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "subscriptions") (result i32) (i32.const 16))
    (func (export "handle") (param i32 i32)))
  (core instance $code (instantiate $code))
  (func $subscriptions (result (list string))
    (canon lift (core func $code "subscriptions") (memory (core memory $code "memory")) (realloc (core func $code "realloc"))))
  (func $handle (param "event" string)
    (canon lift (core func $code "handle") (memory (core memory $code "memory")) (realloc (core func $code "realloc"))))
  (instance $handler
    (export "subscriptions" (func $subscriptions))
    (export "handle" (func $handle)))
  (export "busway:bus/handler@0.1.0" (instance $handler)))
