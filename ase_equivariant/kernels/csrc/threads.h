// Parallel loops on the threads that PyTorch has already. For the objects compiled for the baseline only.
#pragma once
#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

typedef void (*OpenMPParallel)(void (*)(void *), void *, unsigned threads, unsigned flags);
extern OpenMPParallel openmp_parallel;  // see conv_use_openmp

// body(share) for every share from 0 to threads - 1, on that many threads if the runtime grants them.
template <class Body> void run_shares(int threads, Body &&body) {
    struct Job {
        Body &body;
        int threads;
        std::atomic<int> next{0};
        static void work(void *data) {
            Job &job = *static_cast<Job *>(data);
            for (int share; (share = job.next.fetch_add(1)) < job.threads;) job.body(share);
        }
    } job{body, threads};
    if (threads == 1) return body(0);
    if (openmp_parallel) return openmp_parallel(Job::work, &job, unsigned(threads), 0);
    std::vector<std::thread> others;
    for (int t = 1; t < threads; t++) others.emplace_back(Job::work, &job);
    Job::work(&job);
    for (std::thread &other : others) other.join();
}

// body(begin, end, share) on pieces of 0 .. n - 1. Which thread takes a piece must not matter to the result.
template <class Body> void run_pieces(int threads, int64_t n, int64_t piece, Body &&body) {
    if (n <= 0) return;
    if (threads == 1) return body(int64_t(0), n, 0);
    std::atomic<int64_t> next{0};
    run_shares(threads, [&](int share) {
        for (int64_t begin; (begin = next.fetch_add(piece)) < n;) body(begin, std::min(begin + piece, n), share);
    });
}
