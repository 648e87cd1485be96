// A frozen network as the library sees it: plain C structs that frozen.py fills through ctypes.
//
// All rows are padded: the channels of one irrep (or, where a row is cut finer, of one segment) take a multiple of
// the vector's lanes, the surplus is zero, component m of a block starts at offset + m * stride. "void" stands for
// the network's precision.
#pragma once
#include <cstdint>

constexpr int BLOCK = 16;  // atoms handled together by one thread

// out[m, :n] += in[m, :k] . weight for the components of one irrep; backward with the transposed matrix
// (n, padded_k). With one matrix for each species they follow one another.
struct LinearBlock {
    int64_t components;
    int64_t in_offset, in_stride, out_offset, out_stride;
    int64_t k, padded_k, n;
    const void *weight, *transposed;
};

struct Linear {
    int64_t num_blocks, per_species;
    const LinearBlock *blocks;
};

// One product (l1) x (l2) -> (l3) of chunks * lanes channels.
struct NetworkPath {
    int64_t l1, l2, l3, chunks;
    int64_t x_offset, x_stride, y_offset, out_offset, out_stride;
    int64_t table_offset;           // in a row of the table
    const void *couplings;          // dense (2 l1 + 1, 2 l2 + 1, 2 l3 + 1)
};

enum GateKind { SILU, TANH, GATED };

struct GateBlock {
    int64_t kind, components, width;
    int64_t in_offset, gate_offset, out_offset;
};

// a[out] += value * weight * b[first] * c[second], the places of component rows; terms of one `out` stand together.
struct SquareTerm {
    int64_t first, second, out;
    double value;
};

// One product of two blocks of pre, channel by channel: squares from pre and pre, and gradients by pre from those by
// the squares and pre.
struct SquarePath {
    int64_t width, num_terms, num_gradient_terms;
    const SquareTerm *terms, *gradient_terms;
    const void *weight;             // (width,)
};

// rms^2 = sum over blocks of coefficient * sum of squares
struct NormBlock {
    int64_t components, width, offset;
    double coefficient;
    const void *scale;              // (width,)
};

struct NetworkLayer {
    int64_t dim_x, dim_conv, dim_pre, dim_out;  // rows before and after the convolution, before and after the gate
    int64_t num_paths;
    const NetworkPath *paths;
    const void *table;              // (intervals, table_row): for each chunk the coefficients of its weights' polynomials
    int64_t table_row;
    Linear in, out, self;           // previous features -> x, convolution -> pre, previous features -> pre
    const void *first_x, *first_pre;  // first layer: x and pre by species (pre may be null)
    const void *x_bias, *pre_bias;  // added to every row of x (of later layers) and pre, or null
    int64_t dim_square, num_squares;  // products of pre with itself, which a linear layer adds to it
    const SquarePath *squares;
    Linear square_out;
    int64_t num_norms;
    const NormBlock *norms;
    double norm_epsilon;
    int64_t num_gates;
    const GateBlock *gates;
};

struct HiddenLayer {
    int64_t k, padded_k, n;
    const void *weight, *transposed;
};

// Y_l[m] += value * Y_1[a] * Y_{l-1}[b]
struct HarmonicStep {
    int64_t a, b, m;
    double value;
};

struct Network {
    int64_t num_layers, l_max;
    const NetworkLayer *layers;
    const int64_t *steps_first;     // (l_max,): steps of degree l start at steps_first[l - 2]
    const HarmonicStep *steps;
    double cutoff;
    int64_t num_species;
    const double *stretch;          // by species of centre and neighbour: factors of the distance, or null
    const double *sender;           // by species: factors of x (the first layer's has them already), or null
    int64_t num_intervals;          // of the tables, from 0 to the cutoff
    int64_t num_hidden;             // of the read-out
    const HiddenLayer *hidden;
    int64_t readout_k;              // width of its last vector
    const void *readout;
    const double *scale, *shift;    // by species
};

// Fills rows of the atoms that are not centres with their owners' (gradients = 0), or adds their rows to their owners'
// (gradients = 1). Rows of the network's precision, `stride` numbers apart; `width` of them count. Not 0 ends the run.
typedef int (*Exchange)(void *context, int64_t gradients, void *rows, int64_t width, int64_t stride);

struct NetworkProblem {
    int64_t num_atoms, num_centres, num_edges;  // centres come first; the others, ghosts, are neighbours only
    const int64_t *edge_index;      // (2, E), sorted by centre
    const int64_t *species;         // (N,)
    const double *edge_vectors;     // (E, 3)
    double *energies;               // (centres,)
    double *forces;                 // (N, 3) or null: energies only
    double *virials;                // (N, 3, 3) or null
    Exchange exchange;              // or null, if all are centres
    void *context;
};

// What training keeps besides: by layer, values and gradients of the energy that its tangent pass reads again, and
// tangents ("t"). Row counts are atoms, unless said otherwise. The table's rows are coefficients of B-splines.
struct Training {
    void *conv[64], *g_out[64], *g_pre[64], *g_conv[64], *g_x[64];
    void *t_x[64], *t_pre[64], *t_conv[64];
    void *t_harmonics, *t_position;     // of edges
    void *t_linear[64];                 // with squares: tangents of pre without them
    void *g_squared[64];                // gradients by pre with them; g_pre are those without
    void *tg_out;                       // (N, widest dim_out): tangents of gradients by features
    const double *edge_tangents;        // (E, 3) changes of the edge vectors
    const double *energy_weights;       // (N,) weights of the atoms' energies
    const char *weights;                // all arrays of weights lie in one piece of memory,
    char *gradients;                    // (threads, size) where their gradients lie likewise
    int64_t bytes;
    const void *zeros;                  // a row of the widest dim_x
};

// Memory of one calculation, kept from call to call. Sizes in elements of the network's precision.
struct NetworkMemory {
    const int64_t *first;           // (N + 1,) first edge of a centre
    void *harmonics, *harmonic_gradients;  // (E, dim_y)
    void *position;                 // (E,) of the distance within its interval, 0 .. 1
    int32_t *interval;              // (E,)
    void *distance_gradients;       // (E,), per interval length
    void *x[64], *pre[64];          // by layer: (N, dim_x), (N, dim_pre)
    void *linear[64];               // pre without squares; pre itself in layers that have none
    void *features;                 // (N, widest dim_out): gradients of features
    void *x_gradients[2];           // by parity of the layer: (threads, N, widest dim_x)
    int64_t features_stride, x_stride;
    int64_t threads;
    int64_t x_shares;               // how many of the threads' x_gradients are to be added up: all, or the first has them
    const int64_t *share;           // (threads + 1,) atoms of a thread in the backward pass
    double *edge_gradients;         // (threads, N, 12): forces and virials of each thread
    void *scratch;                  // (threads, scratch_size)
    int64_t scratch_size;
    Training *training;             // or null
};

constexpr int MAX_LAYERS = 64;

struct NetworkRun {
    const Network *network;
    const NetworkProblem *problem;
    const NetworkMemory *memory;
};

// The stages of a calculation, each a parallel loop over atoms begin .. end - 1 with a barrier behind it:
// GEOMETRY, FORWARD of each layer in turn, BACKWARD of each layer from the last, DERIVATIVES (per thread), SUM.
// Training has its own FORWARD and BACKWARD and goes on, once the loss is known, with TANGENT_GEOMETRY, TANGENT_FORWARD
// of each layer, TANGENT_BACKWARD of each from the last and SUM_GRADIENTS (of bytes, not atoms).
enum Stage {
    GEOMETRY, FORWARD_LAYER, BACKWARD_LAYER, DERIVATIVES, SUM,
    SUM_X,  // of a layer's x_gradients, before they are exchanged
    TRAIN_FORWARD, TRAIN_BACKWARD, TANGENT_GEOMETRY, TANGENT_FORWARD, TANGENT_BACKWARD, SUM_GRADIENTS, NUM_STAGES
};
typedef void (*StageKernel)(const NetworkRun &, int64_t layer, int64_t begin, int64_t end, int64_t thread);
