;; Needs an interface that no host of busway has.
(component
  (import "acme:warehouse/shelves@2.1.0" (instance
    (export "count" (func (param "shelf" string) (result u32))))))
