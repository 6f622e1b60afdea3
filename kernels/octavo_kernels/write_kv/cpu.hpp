// write_kv of one head.
#pragma once

#include <algorithm>
#include <type_traits>

#include "../native/numbers.hpp"

template <class T, class Cached>
inline void store_head(const T* head, int64_t head_dim, Cached* place, float scale) {
    if constexpr (std::is_same_v<T, Cached>)
        std::copy_n(head, head_dim, place);
    else
        for (int64_t element = 0; element < head_dim; element++)
            place[element] = static_cast<Cached>(static_cast<float>(head[element]) / scale);
}
