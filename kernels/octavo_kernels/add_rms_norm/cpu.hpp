// add_rms_norm of one row; `total` may be `residual` itself.
#pragma once

#include "../rms_norm/cpu.hpp"

template <class X, class Residual>
inline void add_and_normalise_row(const X* x, const Residual* residual, const X* weight, int64_t width, double eps,
                                  float multiplier, X* normed, Residual* total, float offset = 0) {
    for (int64_t column = 0; column < width; column++)
        total[column] =
            static_cast<Residual>(static_cast<float>(x[column]) * multiplier + static_cast<float>(residual[column]));
    normalise_row(total, weight, width, eps, normed, offset);
}
