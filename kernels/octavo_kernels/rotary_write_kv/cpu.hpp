// rotary of one head; cos_sin: of its position, `half` cosines, then as many sines.
#pragma once

#include "../native/numbers.hpp"

template <class T>
inline void rotate(T* head, int64_t half, const float* cos_sin) {
    for (int64_t index = 0; index < half; index++) {
        const float first = static_cast<float>(head[index]), second = static_cast<float>(head[index + half]);
        const float cos = cos_sin[index], sin = cos_sin[index + half];
        head[index] = static_cast<T>(first * cos - second * sin);
        head[index + half] = static_cast<T>(second * cos + first * sin);
    }
}
