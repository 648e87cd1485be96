// Vectors of the instruction set and precision that an object is compiled for, and compile-time loops.
// Everything is local to the object: code for AVX-512 must not be lent to the others.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace {

typedef REAL Vector __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL Unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
constexpr int LANES = VECTOR_BYTES / sizeof(REAL);

inline Vector load(const REAL *p) { return *reinterpret_cast<const Unaligned *>(p); }
inline void store(REAL *p, Vector v) { *reinterpret_cast<Unaligned *>(p) = v; }

// f(0), f(1), ... f(N - 1) with the index a constant: unrolled at any optimization level.
template <int I> struct Index {
    static constexpr int value = I;
    constexpr operator int() const { return I; }
};
template <class F, int... I>
constexpr inline __attribute__((always_inline)) void unroll(F &&f, std::integer_sequence<int, I...>) {
    (f(Index<I>()), ...);
}
template <int N, class F> constexpr inline __attribute__((always_inline)) void unroll(F &&f) {
    unroll(f, std::make_integer_sequence<int, N>());
}

// f of every index below N. Where `Unrolled`, each index is a constant and local arrays live in registers;
// else a plain loop keeps the library small and quick to compile.
template <bool Unrolled, int N, class F> inline __attribute__((always_inline)) void each(F &&f) {
    if constexpr (Unrolled) unroll<N>(f);
    else for (int i = 0; i < N; i++) f(i);
}

template <int BYTES> inline REAL sum_of_lanes(const REAL *p) {
    if constexpr (BYTES == sizeof(REAL)) return *p;
    else if constexpr (BYTES == 2 * sizeof(REAL)) return p[0] + p[1];
    else {
        typedef REAL Half __attribute__((vector_size(BYTES / 2)));
        Half low, high;
        memcpy(&low, p, BYTES / 2);
        memcpy(&high, p + BYTES / 2 / sizeof(REAL), BYTES / 2);
        low += high;
        return sum_of_lanes<BYTES / 2>(reinterpret_cast<const REAL *>(&low));
    }
}
inline REAL sum_of(const Vector &v) { return sum_of_lanes<VECTOR_BYTES>(reinterpret_cast<const REAL *>(&v)); }

}  // namespace
