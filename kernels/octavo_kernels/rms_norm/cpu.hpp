// rms_norm of one row, for loops that have just computed it.
#pragma once

#include "../native/numbers.hpp"

template <class X, class Weight>
inline void normalise_row(const X* x, const Weight* weight, int64_t width, double eps, Weight* out,
                          float offset = 0) {
    double square = 0;  // in 64 bits: a wide row's sum would lose digits
    for (int64_t column = 0; column < width; column++) {
        const float value = static_cast<float>(x[column]);
        square += value * value;
    }
    const float scale = static_cast<float>(1 / std::sqrt(square / static_cast<double>(width) + eps));
    for (int64_t column = 0; column < width; column++)
        out[column] =
            static_cast<Weight>(static_cast<float>(x[column]) * scale * (offset + static_cast<float>(weight[column])));
}
