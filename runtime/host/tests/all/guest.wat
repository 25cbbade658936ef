;; A handler that does what the first byte of the data says. Written by hand, so that these tests need no other toolchain.
(module
  (import "busway:bus/producer@0.1.0" "publish" (func $publish (param i32 i32)))
  (import "busway:bus/producer@0.1.0" "publish-many" (func $publish-many (param i32 i32 i32)))
  (import "busway:bus/key-value@0.1.0" "increment" (func $increment (param i32 i32 i64 i32)))
  (import "busway:bus/key-value@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))
  (import "busway:bus/key-value@0.1.0" "get" (func $get (param i32 i32 i32)))
  (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
  (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:cli/stderr@0.2.0" "get-stderr" (func $stderr (result i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))

  (memory (export "memory") 4)
  ;; 0: results of calls, 256: result of handle, 512: message, 4096: texts, 65536: heap
  (data (i32.const 4096) "out.topic")
  (data (i32.const 4128) "counter")
  (data (i32.const 4160) "that went wrong")
  (data (i32.const 4192) "out.*")
  (data (i32.const 4224) "thread 'main' panicked: boom\0a")
  (data (i32.const 4352) "bad..topic")
  (data (i32.const 4384) "in.>")
  (global $heap (mut i32) (i32.const 65536))
  (global $count (mut i32) (i32.const 0))

  (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32) (local $end i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (local.set $end (i32.add (local.get $at) (local.get 3)))
    (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
      (then (if (i32.eq (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get 3) (i32.const 16)))) (i32.const -1))
        (then unreachable))))
    (global.set $heap (local.get $end))
    (local.get $at))

  ;; the message at `at`: topic `topic`, data `data`
  (func $message (param $at i32) (param $topic i32) (param $topic-len i32) (param $data i32) (param $data-len i32)
    (memory.fill (local.get $at) (i32.const 0) (i32.const 96))
    (i32.store (local.get $at) (local.get $topic))
    (i32.store offset=4 (local.get $at) (local.get $topic-len))
    (i32.store offset=40 (local.get $at) (local.get $data))
    (i32.store offset=44 (local.get $at) (local.get $data-len)))

  ;; the result: 0 ok, 1 retry, 2 reject, with the text that a refusal left at 8, or a fixed one
  (func $answer (param $kind i32) (param $text i32) (param $len i32) (result i32)
    (i32.store8 offset=256 (i32.const 0) (i32.ne (local.get $kind) (i32.const 0)))
    (i32.store8 offset=260 (i32.const 0) (i32.eq (local.get $kind) (i32.const 2)))
    (i32.store offset=264 (i32.const 0) (local.get $text))
    (i32.store offset=268 (i32.const 0) (local.get $len))
    (i32.const 256))
  (func $ok (result i32) (call $answer (i32.const 0) (i32.const 0) (i32.const 0)))
  ;; rejects with the refusal at 0, if there is one
  (func $refused (result i32)
    (if (result i32) (i32.load8_u (i32.const 0))
      (then (call $answer (i32.const 2) (i32.load (i32.const 8)) (i32.load (i32.const 12))))
      (else (call $ok))))

  (func $recurse (param i32) (result i32) (i32.add (call $recurse (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))

  (func $grow
    (loop $more
      (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
      (br $more)))

  ;; `count` messages of 1 byte each, all in one call
  (func $flood (param $count i32) (param $data-len i32) (result i32)
    (local $i i32) (local $list i32)
    (local.set $list (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (local.get $count) (i32.const 96))))
    (loop $next
      (call $message (i32.add (local.get $list) (i32.mul (local.get $i) (i32.const 96)))
        (i32.const 4096) (i32.const 9) (i32.const 4096) (local.get $data-len))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (local.get $count))))
    (call $publish-many (local.get $list) (local.get $count) (i32.const 0))
    (call $refused))

  (func $is (param $command i32) (param $wanted i32) (result i32) (i32.eq (local.get $command) (local.get $wanted)))

  (func (export "busway:bus/handler@0.1.0#handle")
    (param $id i32) (param $id-len i32) (param $topic i32) (param $topic-len i32)
    (param $has-key i32) (param $key i32) (param $key-len i32) (param i32 i32 i32)
    (param $headers i32) (param $headers-len i32) (param $data i32) (param $data-len i32) (result i32)
    (local $c i32)
    (global.set $heap (i32.const 65536))
    (local.set $c (i32.load8_u (local.get $data)))
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    ;; t: trap
    (if (call $is (local.get $c) (i32.const 0x74)) (then unreachable))
    ;; l: loop for ever
    (if (call $is (local.get $c) (i32.const 0x6c)) (then (loop $ever (br $ever))))
    ;; r: retry, j: reject
    (if (call $is (local.get $c) (i32.const 0x72))
      (then (return (call $answer (i32.const 1) (i32.const 4160) (i32.const 15)))))
    (if (call $is (local.get $c) (i32.const 0x6a))
      (then (return (call $answer (i32.const 2) (i32.const 4160) (i32.const 15)))))
    ;; p: publish the data to out.topic, then ok; f: publish, then fail; b: publish to a bad topic
    (if (i32.or (call $is (local.get $c) (i32.const 0x70)) (call $is (local.get $c) (i32.const 0x66)))
      (then
        (call $message (i32.const 512) (i32.const 4096) (i32.const 9) (local.get $data) (local.get $data-len))
        (call $publish (i32.const 512) (i32.const 0))
        (if (call $is (local.get $c) (i32.const 0x66))
          (then (return (call $answer (i32.const 1) (i32.const 4160) (i32.const 15)))))
        (return (call $refused))))
    (if (call $is (local.get $c) (i32.const 0x62))
      (then
        (call $message (i32.const 512) (i32.const 4352) (i32.const 10) (local.get $data) (local.get $data-len))
        (call $publish (i32.const 512) (i32.const 0))
        (return (call $refused))))
    ;; F: more events than one delivery may publish
    (if (call $is (local.get $c) (i32.const 0x46))
      (then (drop (call $flood (i32.const 1000) (i32.const 1))) (return (call $flood (i32.const 1) (i32.const 1)))))
    ;; a: ten thousand strings that are the same 64 KiB
    (if (call $is (local.get $c) (i32.const 0x61))
      (then (return (call $flood (i32.const 10000) (i32.const 65536)))))
    ;; B: nearly a mebibyte, twice
    (if (call $is (local.get $c) (i32.const 0x42))
      (then
        (drop (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 1100000)))
        (drop (call $flood (i32.const 1) (i32.const 1000000)))
        (return (call $flood (i32.const 1) (i32.const 1000000)))))
    ;; m: grow for ever, s: recurse for ever
    (if (call $is (local.get $c) (i32.const 0x6d)) (then (call $grow)))
    (if (call $is (local.get $c) (i32.const 0x73)) (then (drop (call $recurse (i32.const 0)))))
    ;; i: increment the counter; I: increment it, then trap
    (if (i32.or (call $is (local.get $c) (i32.const 0x69)) (call $is (local.get $c) (i32.const 0x49)))
      (then
        (call $increment (i32.const 4128) (i32.const 7) (i64.const 1) (i32.const 0))
        (if (call $is (local.get $c) (i32.const 0x49)) (then unreachable))
        (if (i32.load8_u (i32.const 0))
          (then (return (call $answer (i32.const 2) (i32.load (i32.const 12)) (i32.load (i32.const 16))))))
        (return (call $ok))))
    ;; w: set the counter to the data; g: read the counter and reject with its value
    (if (call $is (local.get $c) (i32.const 0x77))
      (then
        (call $set (i32.const 4128) (i32.const 7) (local.get $data) (local.get $data-len) (i32.const 0))
        (return (call $refused))))
    (if (call $is (local.get $c) (i32.const 0x67))
      (then
        (call $get (i32.const 4128) (i32.const 7) (i32.const 0))
        (return (call $answer (i32.const 2) (i32.load (i32.const 8)) (i32.load (i32.const 12))))))
    ;; z: sleep for ten minutes; q: sleep for 30 ms
    (if (call $is (local.get $c) (i32.const 0x7a)) (then (call $block (call $subscribe (i64.const 600000000000)))))
    (if (call $is (local.get $c) (i32.const 0x71)) (then (call $block (call $subscribe (i64.const 30000000)))))
    ;; e: write to stderr, then trap; o: write a lot to stderr, then ok
    (if (call $is (local.get $c) (i32.const 0x65))
      (then (call $write (call $stderr) (i32.const 4224) (i32.const 29) (i32.const 0)) unreachable))
    (if (call $is (local.get $c) (i32.const 0x6f))
      (then (local.set $c (i32.const 100))
        (loop $more
          (call $write (call $stderr) (i32.const 4096) (i32.const 4096) (i32.const 0))
          (local.set $c (i32.sub (local.get $c) (i32.const 1)))
          (br_if $more (local.get $c)))))
    ;; x: reject with the id, k: with the key, h: with the first header's value, n: ok only the first time
    (if (call $is (local.get $c) (i32.const 0x78))
      (then (return (call $answer (i32.const 2) (local.get $id) (local.get $id-len)))))
    (if (call $is (local.get $c) (i32.const 0x6b))
      (then (return (call $answer (i32.const 2) (local.get $key) (local.get $key-len)))))
    (if (call $is (local.get $c) (i32.const 0x68))
      (then (return (call $answer (i32.const 2) (i32.load offset=8 (local.get $headers))
        (i32.load offset=12 (local.get $headers))))))
    (if (call $is (local.get $c) (i32.const 0x6e))
      (then (if (i32.gt_u (global.get $count) (i32.const 1))
        (then (return (call $answer (i32.const 2) (i32.const 4160) (i32.const 15)))))))
    (call $ok))

  (func (export "busway:bus/handler@0.1.0#subscriptions") (result i32)
    (i32.store (i32.const 1024) (i32.const 4384))
    (i32.store (i32.const 1028) (i32.const 4))
    (i32.store (i32.const 1032) (i32.const 1024))
    (i32.store (i32.const 1036) (i32.const 1))
    (i32.const 1032))

  ;; a task: publishes once and ends; with TASK replaced by something else it does that
  (func (export "wasi:cli/run@0.2.0#run") (result i32)
    (call $message (i32.const 512) (i32.const 4096) (i32.const 9) (i32.const 4096) (i32.const 3))
    (call $publish (i32.const 512) (i32.const 0))
    ;;TASK;;
    (i32.load8_u (i32.const 0)))
)
