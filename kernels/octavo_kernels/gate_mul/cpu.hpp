// gate_mul of one row. The exponential is taken of numbers below 0 alone, where it cannot overflow.
#pragma once

#include "../native/numbers.hpp"

template <bool GELU, class T>
inline void gate_row(const T* gate_up, int64_t width, T* out) {
    for (int64_t column = 0; column < width; column++) {
        const float gate = static_cast<float>(gate_up[column]), up = static_cast<float>(gate_up[column + width]);
        float inner = gate;
        // (1 + tanh(u)) / 2 is 1 / (1 + e ** -2u); the factor is sqrt(8 / pi).
        if constexpr (GELU) inner = 1.5957691216057308f * (gate + 0.044715f * gate * gate * gate);
        const float small = exponential(-std::fabs(inner));
        const float share = 1.0f / (1.0f + small);
        out[column] = static_cast<T>(gate * (gate >= 0 ? share : small * share) * up);
    }
}
