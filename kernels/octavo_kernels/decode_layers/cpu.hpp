// decode_layers: threads share the tiles of each projection, and one of them does the little between.
#pragma once

#include "../add_rms_norm/cpu.hpp"
#include "../quantized_linear/cpu.hpp"
#include "../paged_decode/cpu.hpp"
#include "../rotary/cpu.hpp"
#include "../silu_mul/cpu.hpp"

// One kind of projection, of all layers.
struct Projections {
    const uint8_t* const* weights;  // [layers]
    const int64_t* bits;            // [layers]
    const float* bias;              // [layers, out]; null where there is none
    int64_t out;

    void operator()(const float* x, int64_t rows, int64_t width, int64_t layer, float* result, int64_t stride,
                    int64_t workers) const {
        quantized_linear(bits[layer], weights[layer], x, rows, width, (out + TILE - 1) / TILE, result, stride, workers);
        for (int64_t row = 0; bias != nullptr && row < rows; row++)
            for (int64_t column = 0; column < out; column++) result[row * stride + column] += bias[layer * out + column];
    }
};

struct Layers {
    Projections qkv, output, gate_up, down;
    const float* norms;  // [2 * layers + 1, hidden]: of each layer before attention and before the MLP, and the last
    const float* rope;   // [positions, head_dim]
    int64_t layers, hidden, inner;
    double eps;
};

// From a row of the QKV projection the query goes to q, scaled, the key and the value to their slots.
template <class T>
inline void place(const float* fused, const Attention& shape, float* q, T* k_slot, T* v_slot) {
    const int64_t q_size = shape.q_heads * shape.head_dim, kv_size = shape.kv_heads * shape.head_dim;
    const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_dim)));
    for (int64_t element = 0; element < q_size; element++) q[element] = fused[element] * scale;
    for (int64_t element = 0; element < kv_size; element++) {
        k_slot[element] = static_cast<T>(fused[q_size + element]);
        v_slot[element] = static_cast<T>(fused[q_size + kv_size + element]);
    }
}

// hidden [rows, width] = what the layers and the last norm make of residual [rows, width], which is overwritten.
// kv_cache: [layer, 2, layer_size], layer_size = blocks * block_size * kv_heads * head_dim.
template <class T>
void decode_layers(const Layers& with, const Attention& attention, float* residual, const int64_t* positions,
                   const int64_t* slots, T* kv_cache, int64_t layer_size, float* hidden, int64_t workers) {
    const int64_t rows = attention.sequences, width = with.hidden, head_dim = attention.head_dim;
    const int64_t q_size = attention.q_heads * head_dim, slot_size = attention.kv_heads * head_dim;
    const int64_t fused_size = (with.qkv.out + TILE - 1) / TILE * TILE;
    const auto room = [&](int64_t columns) { return std::unique_ptr<float[]>(new float[rows * columns]); };
    const auto fused = room(fused_size), q = room(q_size), projected = room(width), gates = room(2 * with.inner),
               activated = room(with.inner);
    const auto add_and_normalise = [&](const float* weight) {
        for (int64_t start = 0; start < rows * width; start += width)
            add_and_normalise_row(&projected[start], residual + start, weight, width, with.eps, hidden + start,
                                  residual + start);
    };
    for (int64_t row = 0; row < rows; row++)
        normalise_row(residual + row * width, with.norms, width, with.eps, hidden + row * width);
    for (int64_t layer = 0; layer < with.layers; layer++) {
        T* k_cache = kv_cache + 2 * layer * layer_size;
        T* v_cache = k_cache + layer_size;
        with.qkv(hidden, rows, width, layer, fused.get(), fused_size, workers);
        for (int64_t row = 0; row < rows; row++) {
            float* heads = &fused[row * fused_size];
            for (int64_t head = 0; head < attention.q_heads + attention.kv_heads; head++)
                rotate(heads + head * head_dim, head_dim / 2, with.rope + positions[row] * head_dim);
            const int64_t slot = slots[row] * slot_size;
            place(heads, attention, &q[row * q_size], k_cache + slot, v_cache + slot);
        }
        attend<T>(q.get(), k_cache, v_cache, attention);
        with.output(attention.attended, rows, q_size, layer, projected.get(), width, workers);
        add_and_normalise(with.norms + (2 * layer + 1) * width);
        with.gate_up(hidden, rows, width, layer, gates.get(), 2 * with.inner, workers);
        for (int64_t row = 0; row < rows; row++)
            activate_row(&gates[row * 2 * with.inner], with.inner, &activated[row * with.inner]);
        with.down(activated.get(), rows, with.inner, layer, projected.get(), width, workers);
        add_and_normalise(with.norms + (2 * layer + 2) * width);
    }
}
