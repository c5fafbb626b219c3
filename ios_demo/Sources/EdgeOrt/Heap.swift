import COnnxRuntime

/// Blocks of this size, in bytes, are mapped on their own, and go back to the system when they are freed.
private let block: Int32 = 1 << 18

/// Let the allocator return every large freed block at once, instead of keeping it for later.
///
/// By default glibc raises the size from which blocks go back, up to 32 MB, and keeps what is smaller: of a graph of
/// Stable Diffusion's size some 250 MB. Apple's allocator maps large blocks on their own.
func boundHeap() {
    #if os(Linux)
        mallopt(M_MMAP_THRESHOLD, block)
        mallopt(M_TRIM_THRESHOLD, block)
    #endif
}

/// Give what the allocator holds free back to the system, so that a closed graph's memory is not kept.
func releaseFreeMemory() {
    #if os(Linux)
        malloc_trim(0)
    #endif
}
