// gate_mul of one row. The exponential is taken of numbers below 0 alone, where it cannot overflow.
#pragma once

#include "../native/numbers.hpp"

enum class Gate : int64_t { SILU, GELU_TANH, GELU };

// The share of a standard normal distribution beyond |x|. Method: erfc as Chebyshev fits it, within 2e-7 of it (Press et
// al., Numerical Recipes, 6.2), in instructions that a loop runs for many numbers at once.
inline float normal_tail(float x) {
    const float size = std::fabs(x) * 0.7071067811865476f;
    const float z = size > 16.0f ? 16.0f : size;
    const float t = 1.0f / (1.0f + 0.5f * z);
    float series = 0.17087277f;
    series = series * t - 0.82215223f;
    series = series * t + 1.48851587f;
    series = series * t - 1.13520398f;
    series = series * t + 0.27886807f;
    series = series * t - 0.18628806f;
    series = series * t + 0.09678418f;
    series = series * t + 0.37409196f;
    series = series * t + 1.00002368f;
    return 0.5f * t * exponential(series * t - 1.26551223f - z * z);
}

template <Gate GATE, class T>
inline void gate_row(const T* gate_up, int64_t width, T* out) {
    for (int64_t column = 0; column < width; column++) {
        const float gate = static_cast<float>(gate_up[column]), up = static_cast<float>(gate_up[column + width]);
        float low;  // the factor of a gate below 0; above, it is 1 less that
        if constexpr (GATE == Gate::GELU) {
            low = normal_tail(gate);
        } else {
            float inner = gate;
            // (1 + tanh(u)) / 2 is 1 / (1 + e ** -2u); the factor is sqrt(8 / pi).
            if constexpr (GATE == Gate::GELU_TANH)
                inner = 1.5957691216057308f * (gate + 0.044715f * gate * gate * gate);
            const float small = exponential(-std::fabs(inner));
            low = small / (1.0f + small);
        }
        out[column] = static_cast<T>(gate * (gate >= 0 ? 1.0f - low : low) * up);
    }
}
