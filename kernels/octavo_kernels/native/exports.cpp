// What Python calls: the loops of all ops, for any type of numbers. Strides and sizes are in elements; each function's
// arguments stand in the same order in the op's cpu.py, and what they mean in its __init__.py.
#include <cstring>

#include "../decode_layers/cpu.hpp"
#include "../gelu_mul/cpu.hpp"
#include "../wide_linear/cpu.hpp"

template <class T>
static const T* typed(const void* memory, int64_t offset = 0) {
    return static_cast<const T*>(memory) + offset;
}

template <class T>
static T* typed(void* memory, int64_t offset = 0) {
    return static_cast<T*>(memory) + offset;
}

extern "C" {

int64_t octavo_lanes() { return LANES; }

void octavo_rms_norm(int64_t x_type, int64_t weight_type, const void* x, int64_t x_stride, const void* weight,
                     void* out, int64_t out_stride, int64_t rows, int64_t width, double eps, double offset) {
    with_type(x_type, [&]<class X>(X*) {
        with_type(weight_type, [&]<class Weight>(Weight*) {
            for (int64_t row = 0; row < rows; row++)
                normalise_row(typed<X>(x, row * x_stride), typed<Weight>(weight), width, eps,
                              typed<Weight>(out, row * out_stride), static_cast<float>(offset));
        });
    });
}

void octavo_add_rms_norm(int64_t x_type, int64_t residual_type, const void* x, int64_t x_stride, const void* residual,
                         int64_t residual_stride, const void* weight, void* normed, void* total, int64_t rows,
                         int64_t width, double eps, double offset) {
    with_type(x_type, [&]<class X>(X*) {
        with_type(residual_type, [&]<class Residual>(Residual*) {
            for (int64_t row = 0; row < rows; row++)
                add_and_normalise_row(typed<X>(x, row * x_stride), typed<Residual>(residual, row * residual_stride),
                                      typed<X>(weight), width, eps, typed<X>(normed, row * width),
                                      typed<Residual>(total, row * width), static_cast<float>(offset));
        });
    });
}

void octavo_rotary(int64_t type, void* memory, int64_t token_stride, int64_t head_stride, int64_t tokens,
                   int64_t heads, int64_t rotated, const int64_t* positions, const float* cos_sin) {
    with_type(type, [&]<class T>(T*) {
        for (int64_t token = 0; token < tokens; token++)
            for (int64_t head = 0; head < heads; head++)
                rotate(typed<T>(memory, token * token_stride + head * head_stride), rotated / 2,
                       cos_sin + positions[token] * rotated);
    });
}

void octavo_silu_mul(int64_t type, const void* gate_up, int64_t gate_up_stride, void* out, int64_t out_stride,
                     int64_t rows, int64_t width, int64_t workers) {
    with_type(type, [&]<class T>(T*) {
#pragma omp parallel for num_threads(workers) schedule(static)
        for (int64_t row = 0; row < rows; row++)
            activate_row(typed<T>(gate_up, row * gate_up_stride), width, typed<T>(out, row * out_stride));
    });
}

void octavo_gelu_mul(int64_t type, const void* gate_up, int64_t gate_up_stride, void* out, int64_t out_stride,
                     int64_t rows, int64_t width, int64_t workers) {
    with_type(type, [&]<class T>(T*) {
#pragma omp parallel for num_threads(workers) schedule(static)
        for (int64_t row = 0; row < rows; row++)
            gelu_row(typed<T>(gate_up, row * gate_up_stride), width, typed<T>(out, row * out_stride));
    });
}

// Sizes and strides of k, v and the caches in bytes: their numbers are copied as they are.
void octavo_write_kv(const char* k, int64_t k_token, int64_t k_head, const char* v, int64_t v_token, int64_t v_head,
                     char* k_cache, char* v_cache, const int64_t* slots, int64_t tokens, int64_t heads,
                     int64_t head_size) {
    for (int64_t token = 0; token < tokens; token++)
        for (int64_t head = 0; slots[token] >= 0 && head < heads; head++) {
            const int64_t place = (slots[token] * heads + head) * head_size;
            std::memcpy(k_cache + place, k + token * k_token + head * k_head, head_size);
            std::memcpy(v_cache + place, v + token * v_token + head * v_head, head_size);
        }
}

void octavo_wide_linear(int64_t weight_type, const float* x, const void* weight, int64_t rows, int64_t width,
                        int64_t columns, float* out, int64_t workers) {
    with_type(weight_type, [&]<class Weight>(Weight*) {
        wide_linear(x, typed<Weight>(weight), rows, width, columns, out, workers);
    });
}

void octavo_quantized_linear(int64_t bits, const uint8_t* weight, const float* x, int64_t rows, int64_t width,
                             int64_t tiles, float* out, int64_t workers) {
    quantized_linear(bits, weight, x, rows, width, tiles, out, tiles * TILE, workers);
}

void octavo_paged_decode(int64_t type, const float* q, const void* k_cache, const void* v_cache,
                         const Attention* attention, int64_t window, double softcap) {
    with_type(type, [&]<class T>(T*) {
        attend(q, typed<T>(k_cache), typed<T>(v_cache), *attention, window, static_cast<float>(softcap));
    });
}

void octavo_decode_layers(int64_t type, const Layers* layers, const Attention* attention, float* residual,
                          const int64_t* positions, const int64_t* slots, void* kv_cache, int64_t layer_size,
                          float* hidden, int64_t workers) {
    with_type(type, [&]<class T>(T*) {
        decode_layers(*layers, *attention, residual, positions, slots, typed<T>(kv_cache), layer_size, hidden, workers);
    });
}
}
