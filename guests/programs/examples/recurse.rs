//! On data `recurse` calls itself until the stack is used up; acknowledges other data.

#[expect(unconditional_recursion, reason = "that is its purpose")]
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    std::hint::black_box(deeper(std::hint::black_box(depth + 1)) + 1)
}

busway_guest::service!(subscribe = ["public.recurse"], |event| {
    if event.data() == b"recurse" {
        println!("{}", deeper(0));
    }
    Ok(())
});
