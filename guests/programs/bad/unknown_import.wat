;; Needs an interface of another host, which busway does not have.
(component
  (import "fermyon:spin/mysql@2.1.0" (instance
    (export "execute" (func (param "statement" string) (result u32))))))
