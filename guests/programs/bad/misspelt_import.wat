;; Needs an interface whose name is nearly one that busway has: `key-values` instead of `key-value`.
(component
  (import "busway:bus/key-values@0.1.0" (instance
    (export "get" (func (param "key" string) (result (option (list u8))))))))
