;; A well-typed handler whose instances cannot be made: their start function traps.
(component
  (type $types (instance
    (type $header (record (field "name" string) (field "value" string)))
    (export "header" (type $header-out (eq $header)))
    (type $event (record
      (field "id" string) (field "topic" string) (field "key" (option string)) (field "content-type" (option string))
      (field "headers" (list $header-out)) (field "data" (list u8))))
    (export "event" (type (eq $event)))
    (type $failure (variant (case "retry" string) (case "reject" string)))
    (export "failure" (type (eq $failure)))))
  (import "busway:bus/types@0.1.0" (instance $types (type $types)))
  (alias export $types "event" (type $event))
  (alias export $types "failure" (type $failure))
  (core module $code
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "subscriptions") (result i32) (i32.const 16))
    (func (export "handle") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 16))
    (func $start (unreachable))
    (start $start))
  (core instance $code (instantiate $code))
  (func $subscriptions (result (list string))
    (canon lift (core func $code "subscriptions") (memory (core memory $code "memory"))))
  (func $handle (param "event" $event) (result (result (error $failure)))
    (canon lift (core func $code "handle") (memory (core memory $code "memory")) (realloc (core func $code "realloc"))))
  (instance $handler
    (export "subscriptions" (func $subscriptions))
    (export "handle" (func $handle)))
  (export "busway:bus/handler@0.1.0" (instance $handler)))
