// gelu_mul of one row. (1 + tanh(u)) / 2 is 1 / (1 + e ** -2u); the exponential is taken of numbers below 0 alone.
#pragma once

#include "../native/numbers.hpp"

template <class T>
inline void gelu_row(const T* gate_up, int64_t width, T* out) {
    for (int64_t column = 0; column < width; column++) {
        const float gate = static_cast<float>(gate_up[column]), up = static_cast<float>(gate_up[column + width]);
        const float twice = 1.5957691216057308f * (gate + 0.044715f * gate * gate * gate);  // sqrt(8 / pi)
        const float small = exponential(-std::fabs(twice));
        const float share = 1.0f / (1.0f + small);
        out[column] = static_cast<T>(gate * (gate >= 0 ? share : small * share) * up);
    }
}
