// Which Clebsch-Gordan coefficients can differ from zero, at compile time.
//
// In the basis of real harmonics (m < 0 a sine, m >= 0 a cosine of |m| times the azimuth) C[m1, m2, m3] vanishes
// unless one of |m1|, |m2|, |m3| is the sum of the others and the number of sines is even for even l1 + l2 + l3,
// odd for odd. The values come from the caller at run time, who is refused if they break the rule.
// Everything here is local to each object: those for AVX-512 must not lend code to the others.
#pragma once

namespace {

constexpr int magnitude(int m) { return m < 0 ? -m : m; }

constexpr bool couples(int l1, int l2, int l3, int m1, int m2, int m3) {
    const int a = magnitude(m1), b = magnitude(m2), c = magnitude(m3);
    const int sines = (m1 < 0) + (m2 < 0) + (m3 < 0);
    return (a == b + c || b == a + c || c == a + b) && sines % 2 == (l1 + l2 + l3) % 2;
}

struct Term { int m1, m2, m3; };  // components, from 0

template <int L1, int L2, int L3> struct Couplings {
    static constexpr int D1 = 2 * L1 + 1, D2 = 2 * L2 + 1, D3 = 2 * L3 + 1;
    static constexpr bool unrolled = L1 <= UNROLLED_L && L2 <= UNROLLED_L && L3 <= UNROLLED_L;
    struct List {
        int num_terms = 0, num_pairs = 0, longest = 0;
        Term term[D1 * D2 * D3 + 1] = {};
        Term pair[D1 * D3] = {};      // the (m1, m3) that occur
        int first[D1 * D3 + 1] = {};  // terms of pair p: first[p] .. first[p + 1] - 1
    };
    static constexpr List make() {
        List list;
        for (int i = 0; i < D1; i++)
            for (int k = 0; k < D3; k++) {
                const int before = list.num_terms;
                for (int j = 0; j < D2; j++)
                    if (couples(L1, L2, L3, i - L1, j - L2, k - L3)) list.term[list.num_terms++] = Term{i, j, k};
                if (list.num_terms == before) continue;
                if (list.num_terms - before > list.longest) list.longest = list.num_terms - before;
                list.pair[list.num_pairs++] = Term{i, 0, k};
                list.first[list.num_pairs] = list.num_terms;
            }
        return list;
    }
    static constexpr List list = make();
    // The same terms by (m1, m2): pair p has the terms by_harmonic.first[p] .. by_harmonic.first[p + 1] - 1.
    struct HarmonicList {
        int num_terms = 0, num_pairs = 0;
        Term term[D1 * D2 * D3 + 1] = {};
        Term pair[D1 * D2] = {};
        int first[D1 * D2 + 1] = {};
    };
    static constexpr HarmonicList make_by_harmonic() {
        HarmonicList list;
        for (int i = 0; i < D1; i++)
            for (int j = 0; j < D2; j++) {
                const int before = list.num_terms;
                for (int k = 0; k < D3; k++)
                    if (couples(L1, L2, L3, i - L1, j - L2, k - L3)) list.term[list.num_terms++] = Term{i, j, k};
                if (list.num_terms == before) continue;
                list.pair[list.num_pairs++] = Term{i, j, 0};
                list.first[list.num_pairs] = list.num_terms;
            }
        return list;
    }
    static constexpr HarmonicList by_harmonic = make_by_harmonic();
    static constexpr int num_pairs = list.num_pairs;
    static_assert(list.longest <= 2, "|m2| is |m1| + |m3| or ||m1| - |m3||, and the parity rule fixes its sign");
};

}  // namespace
