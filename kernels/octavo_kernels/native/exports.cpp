// What Python calls: the loops of all ops, for any type of numbers. Strides and sizes are in elements; each function's
// arguments stand in the same order in the op's cpu.py, and what they mean in its __init__.py.
#include "../add_rms_norm/cpu.hpp"
#include "../gate_mul/cpu.hpp"
#include "../paged_decode/cpu.hpp"
#include "../quantized_linear/cpu.hpp"
#include "../quantized_linear/packing.hpp"
#include "../rms_norm/cpu.hpp"
#include "../rotary_write_kv/cpu.hpp"
#include "../wide_linear/cpu.hpp"
#include "../write_kv/cpu.hpp"
#include "threads.hpp"
#include "words.hpp"

template <class T>
static const T* typed(const void* memory, int64_t offset = 0) {
    return static_cast<const T*>(memory) + offset;
}

template <class T>
static T* typed(void* memory, int64_t offset = 0) {
    return static_cast<T*>(memory) + offset;
}

namespace ops {

void rms_norm(int64_t x_type, int64_t weight_type, const void* x, int64_t x_token, int64_t x_head, const void* weight,
              void* out, int64_t out_token, int64_t out_head, int64_t tokens, int64_t heads, int64_t width, double eps,
              double offset) {
    with_type(x_type, [&]<class X>(X*) {
        with_type(weight_type, [&]<class Weight>(Weight*) {
            for (int64_t token = 0; token < tokens; token++)
                for (int64_t head = 0; head < heads; head++)
                    normalise_row(typed<X>(x, token * x_token + head * x_head), typed<Weight>(weight), width, eps,
                                  typed<Weight>(out, token * out_token + head * out_head), static_cast<float>(offset));
        });
    });
}

void add_rms_norm(int64_t x_type, int64_t residual_type, const void* x, int64_t x_stride, const void* residual,
                  int64_t residual_stride, const void* weight, void* normed, void* total, int64_t rows, int64_t width,
                  double eps, double multiplier, double offset) {
    with_type(x_type, [&]<class X>(X*) {
        with_type(residual_type, [&]<class Residual>(Residual*) {
            for (int64_t row = 0; row < rows; row++)
                add_and_normalise_row(typed<X>(x, row * x_stride), typed<Residual>(residual, row * residual_stride),
                                      typed<X>(weight), width, eps, static_cast<float>(multiplier),
                                      typed<X>(normed, row * width), typed<Residual>(total, row * width),
                                      static_cast<float>(offset));
        });
    });
}

void rotary(int64_t type, void* memory, int64_t token_stride, int64_t head_stride, int64_t tokens, int64_t heads,
            int64_t rotated, const int64_t* positions, const float* cos_sin) {
    with_type(type, [&]<class T>(T*) {
        for (int64_t token = 0; token < tokens; token++)
            for (int64_t head = 0; head < heads; head++)
                rotate(typed<T>(memory, token * token_stride + head * head_stride), rotated / 2,
                       cos_sin + positions[token] * rotated);
    });
}

void gate_mul(int64_t type, int64_t kind, const void* gate_up, int64_t gate_up_stride, void* out, int64_t out_stride,
              int64_t rows, int64_t width, int64_t workers) {
    with_type(type, [&]<class T>(T*) {
        const auto gate = static_cast<Gate>(kind);
        const auto activate = gate == Gate::SILU        ? gate_row<Gate::SILU, T>
                              : gate == Gate::GELU_TANH ? gate_row<Gate::GELU_TANH, T>
                                                        : gate_row<Gate::GELU, T>;
        in_parallel(rows, workers, [&](int64_t row) {
            activate(typed<T>(gate_up, row * gate_up_stride), width, typed<T>(out, row * out_stride));
        });
    });
}

void write_kv(int64_t type, int64_t cache_type, const void* k, int64_t k_token, int64_t k_head, const void* v,
              int64_t v_token, int64_t v_head, void* k_cache, void* v_cache, const int64_t* slots, int64_t tokens,
              int64_t heads, int64_t head_dim, const float* scales) {
    with_type(type, [&]<class T>(T*) {
        with_cache_type(cache_type, [&]<class Cached>(Cached*) {
            for (int64_t token = 0; token < tokens; token++)
                for (int64_t head = 0; slots[token] >= 0 && head < heads; head++) {
                    const int64_t place = (slots[token] * heads + head) * head_dim;
                    const float of_keys = scales ? scales[head] : 1, of_values = scales ? scales[heads + head] : 1;
                    store_head(typed<T>(k, token * k_token + head * k_head), head_dim, typed<Cached>(k_cache, place),
                               of_keys);
                    store_head(typed<T>(v, token * v_token + head * v_head), head_dim, typed<Cached>(v_cache, place),
                               of_values);
                }
        });
    });
}

void wide_linear(int64_t weight_type, const float* x, const void* weight, int64_t rows, int64_t width, int64_t columns,
                 float* out, int64_t workers) {
    with_type(weight_type, [&]<class Weight>(Weight*) {
        ::wide_linear(x, typed<Weight>(weight), rows, width, columns, out, workers);
    });
}

void quantized_linear(int64_t bits, int64_t group, int64_t nested, int64_t minimum, int64_t offset, const int8_t* numbers,
                      const uint8_t* weight, const float* bias, const float* x, int64_t rows, int64_t width,
                      int64_t columns, float* out, int64_t out_stride, int64_t workers) {
    const Meaning meaning{static_cast<float>(offset), numbers};
    with_layout(bits, group, nested, minimum, numbers != nullptr, [&]<class L>(L*) {
        ::quantized_linear<L>(meaning, weight, bias, x, rows, width, columns, out, out_stride, workers);
    });
}

void unpacked_rows(int64_t bits, int64_t group, int64_t nested, int64_t minimum, int64_t offset, const int8_t* numbers,
                   const uint8_t* weight, int64_t width, const int64_t* rows, int64_t count, float* out) {
    const Meaning meaning{static_cast<float>(offset), numbers};
    with_layout(bits, group, nested, minimum, numbers != nullptr,
                [&]<class L>(L*) { ::unpacked_rows<L>(meaning, weight, width, rows, count, out); });
}

void pack_groups(int64_t bits, int64_t group, int64_t nested, int64_t minimum, int64_t, const int8_t* numbers,
                 const uint8_t* values, const uint8_t* scales, const uint8_t* minimums, const float16* factors,
                 int64_t rows, int64_t width, uint8_t* out, int64_t workers) {
    const Groups groups{values, scales, minimums, factors, rows, width};
    with_layout(bits, group, nested, minimum, numbers != nullptr,
                [&]<class L>(L*) { ::pack_groups<L>(groups, out, workers); });
}

void dequantize(int64_t type, int64_t bits, int64_t group, int64_t offset, const int8_t* numbers, const uint8_t* values,
                const float* scales, const float* minimums, int64_t rows, int64_t width, void* out, int64_t workers) {
    const Meaning meaning{static_cast<float>(offset), numbers};
    with_type(type, [&]<class T>(T*) {
        dequantize_groups(bits, group, meaning, values, scales, minimums, rows, width, typed<T>(out), workers);
    });
}

void paged_decode(int64_t q_type, int64_t cache_type, void* q, int64_t q_sequence, int64_t q_head, const void* k_cache,
                  const void* v_cache, int64_t block_size, int64_t q_heads, int64_t kv_heads, int64_t head_dim,
                  double scale, void* out, int64_t out_sequence, int64_t out_head, const Plan* plan, int64_t window,
                  double softcap, const float* sinks, const float* slopes, const float* scales) {
    const Attention attention{
        {q_type, q, q_sequence, q_head}, {q_type, out, out_sequence, out_head},
        block_size, q_heads, kv_heads, head_dim, window, static_cast<float>(scale), static_cast<float>(softcap),
        sinks, slopes, scales,
    };
    with_cache_type(cache_type, [&]<class T>(T*) { attend(typed<T>(k_cache), typed<T>(v_cache), attention, *plan); });
}

}  // namespace ops

#define EXPORT(op) \
    void octavo_##op(const int64_t* words) { call(ops::op, words); }

extern "C" {
EXPORT(add_rms_norm)
EXPORT(dequantize)
EXPORT(gate_mul)
EXPORT(pack_groups)
EXPORT(paged_decode)
EXPORT(quantized_linear)
EXPORT(rms_norm)
EXPORT(rotary)
EXPORT(unpacked_rows)
EXPORT(wide_linear)
EXPORT(write_kv)

void octavo_replay(const Call* calls, int64_t count, const Place* places, int64_t unknown, const int64_t* memories) {
    replay(calls, count, places, unknown, memories);
}

int64_t octavo_lanes() { return LANES; }
}
