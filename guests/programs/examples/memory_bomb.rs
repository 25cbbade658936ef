//! On data `bomb` allocates and touches memory until there is none; acknowledges other data.

busway_guest::service!(subscribe = ["public.memory-bomb"], |event| {
    if event.data() == b"bomb" {
        let mut hoard: Vec<Vec<u8>> = Vec::new();
        loop {
            hoard.push(vec![1; 1024 * 1024]);
            std::hint::black_box(&hoard);
        }
    }
    Ok(())
});
