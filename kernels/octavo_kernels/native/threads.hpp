// Work that threads share.
#pragma once

#include <algorithm>
#include <cstdint>

// Calls `loop` with 0 to count - 1. Each of the workers takes `at_once` of them in turn, or one part of all. One worker
// is the calling thread: waking others would take longer than the little that is done between two products.
template <class Loop>
inline void in_parallel(int64_t count, int64_t workers, Loop loop, int64_t at_once = 0) {
    if (workers == 1) {
        for (int64_t each = 0; each < count; each++) loop(each);
        return;
    }
    const int64_t chunk = at_once > 0 ? at_once : std::max<int64_t>(1, (count + workers - 1) / workers);
#pragma omp parallel for num_threads(workers) schedule(static, chunk)
    for (int64_t each = 0; each < count; each++) loop(each);
}
