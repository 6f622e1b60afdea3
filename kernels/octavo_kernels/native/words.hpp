// Calls of functions whose arguments are 64-bit words, as Python packs them, and lists of such calls.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>
#include <utility>

template <class Parameter>
inline Parameter from_word(int64_t word) {
    if constexpr (std::is_pointer_v<Parameter>)
        return reinterpret_cast<Parameter>(word);
    else
        return std::bit_cast<Parameter>(word);
}

template <class... Parameters, size_t... At>
inline void unpack(void (*function)(Parameters...), const int64_t* words, std::index_sequence<At...>) {
    function(from_word<Parameters>(words[At])...);
}

template <class... Parameters>
inline void call(void (*function)(Parameters...), const int64_t* words) {
    unpack(function, words, std::index_sequence_for<Parameters...>());
}

// As octavo_kernels.native.recording lays it out.
struct Call {
    void (*function)(const int64_t* words);
    const int64_t* words;
};

// A word that is known only now: an address `offset` bytes behind the beginning of one of the memories.
struct Place {
    int64_t* word;
    int64_t memory, offset;
};

inline void replay(const Call* calls, int64_t count, const Place* places, int64_t unknown, const int64_t* memories) {
    for (int64_t each = 0; each < unknown; each++)
        *places[each].word = memories[places[each].memory] + places[each].offset;
    for (int64_t each = 0; each < count; each++) calls[each].function(calls[each].words);
}
