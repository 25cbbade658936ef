;; A core module: what a compiler makes for wasm32-unknown-unknown. Not a component.
(module
  (memory (export "memory") 1)
  (func (export "handle") (param i32 i32) (result i32) (i32.const 0)))
