// wide_linear: each row of the weight is read once, for all rows of x.
#pragma once

#include "../native/threads.hpp"
#include "../native/vectors.hpp"

// x [width] times weight [width]. In four sums, which need not wait for each other, and lose fewer digits than one.
template <class Weight>
inline float product(const float* x, const Weight* weight, int64_t width) {
    floats totals[4] = {};
    int64_t element = 0;
    for (; element + 4 * LANES <= width; element += 4 * LANES)
        for (int part = 0; part < 4; part++)
            totals[part] += load(x + element + part * LANES) * load(weight + element + part * LANES);
    for (; element + LANES <= width; element += LANES) totals[0] += load(x + element) * load(weight + element);
    float total = sum((totals[0] + totals[1]) + (totals[2] + totals[3]));
    for (; element < width; element++) total += x[element] * static_cast<float>(weight[element]);
    return total;
}

template <class Weight>
void wide_linear(const float* x, const Weight* weight, int64_t rows, int64_t width, int64_t columns, float* out,
                 int64_t workers) {
    in_parallel(columns, workers, [&](int64_t column) {
        for (int64_t row = 0; row < rows; row++)
            out[row * columns + column] = product(x + row * width, weight + column * width, width);
    });
}
