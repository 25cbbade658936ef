;; A valid component that exports nothing which busway runs: neither handler nor task.
(component)
