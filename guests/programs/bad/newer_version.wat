;; Needs a version of the bus that this host does not have.
(component
  (import "busway:bus/producer@0.9.0" (instance
    (export "publish" (func (param "topic" string) (param "data" (list u8)))))))
