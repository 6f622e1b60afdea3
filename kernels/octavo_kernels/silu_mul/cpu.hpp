// silu_mul of one row. The exponential is taken of numbers below 0 alone, where it cannot overflow.
#pragma once

#include "../native/numbers.hpp"

template <class T>
inline void activate_row(const T* gate_up, int64_t width, T* out) {
    for (int64_t column = 0; column < width; column++) {
        const float gate = static_cast<float>(gate_up[column]), up = static_cast<float>(gate_up[column + width]);
        const float small = exponential(-std::fabs(gate));
        const float share = 1.0f / (1.0f + small);
        out[column] = static_cast<T>(gate * (gate >= 0 ? share : small * share) * up);
    }
}
