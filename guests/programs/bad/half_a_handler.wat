;; Exports the handler's interface with `subscriptions` but without `handle`.
(component
  (core module $code
    (memory (export "memory") 1)
    (func (export "subscriptions") (result i32) (i32.const 16)))
  (core instance $code (instantiate $code))
  (func $subscriptions (result (list string))
    (canon lift (core func $code "subscriptions") (memory (core memory $code "memory"))))
  (instance $handler (export "subscriptions" (func $subscriptions)))
  (export "busway:bus/handler@0.1.0" (instance $handler)))
