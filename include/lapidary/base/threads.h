// A fixed team of threads that runs one function at a time and meets at barriers inside it.
//
// A step of the model is one Run: some 150 barriers, no locks and no
// allocation. Waiting threads spin briefly (the other threads are usually a few microseconds away),
// then sleep in the kernel, so that an idle team uses no processor time and a busy neighbour is not
// fought.
#ifndef LAPIDARY_BASE_THREADS_H_
#define LAPIDARY_BASE_THREADS_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace lapidary {

namespace internal {

inline void SpinPause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Processors that the cgroup v2 quota of this process pays for; 0 when there is no limit.
inline std::size_t CgroupQuota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
  const double cpus = std::strtod(quota.c_str(), nullptr) / period;
  return std::max<std::size_t>(1, static_cast<std::size_t>(cpus + 0.5));
}

// Starts a thread that runs f(); false if the system refuses one.
template <class F>
bool StartThread(std::thread& thread, const F& f) {
#if defined(__cpp_exceptions)
  try {
    thread = std::thread(f);
  } catch (const std::system_error&) {
    return false;
  }
#else
  thread = std::thread(f);
#endif
  return true;
}

}  // namespace internal

// Threads that this process may use at once: the processors of its affinity mask, at most its
// cgroup quota.
inline std::size_t DefaultThreads() {
  std::size_t threads = std::max(1u, std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    threads = std::max<std::size_t>(1, static_cast<std::size_t>(CPU_COUNT(&set)));
  }
  if (const std::size_t quota = internal::CgroupQuota(); quota != 0)
    threads = std::min(threads, quota);
#endif
  return threads;
}

class ThreadPool {
 public:
  // A team of `threads`, the caller of Run included; 0 means DefaultThreads(). If the system
  // refuses to start that many, the team is smaller: see size().
  explicit ThreadPool(std::size_t threads = 0) {
    const std::size_t processors = DefaultThreads();
    if (threads == 0) threads = processors;
    spins_ = threads <= processors ? kSpins : kSpinsWhenCrowded;
    workers_.reserve(threads - 1);
    for (; size_ < threads; ++size_) {
      std::thread worker;
      if (!internal::StartThread(worker, [this, index = size_] { Work(index); })) break;
      workers_.push_back(std::move(worker));
    }
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  ~ThreadPool() {
    job_ = nullptr;
    Publish();
    for (std::thread& worker : workers_) worker.join();
  }

  std::size_t size() const { return size_; }

  // Calls f(thread) once on every thread of the team, thread = 0 .. size() - 1 with 0 the caller,
  // and returns when all have returned. One Run at a time. If f throws, the program ends, on
  // whichever thread: the others wait for each other inside it.
  template <class F>
  void Run(F&& f) noexcept {
    using Function = std::remove_reference_t<F>;
    context_ = const_cast<void*>(static_cast<const void*>(&f));
    job_ = [](void* context, std::size_t thread) { (*static_cast<Function*>(context))(thread); };
    Publish();
    f(std::size_t{0});
    Barrier();
  }

  // Inside Run: returns once every thread of the team has arrived.
  void Barrier() {
    if (size_ == 1) return;
    const std::uint32_t epoch = barrier_epoch_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);
      // Sequentially consistent: notify_all looks whether anybody sleeps before it wakes them, and
      // that look must not come before the store. After a release store it may, and then a thread
      // that goes to sleep at that moment is never woken. (The likely reason of a hang seen once in
      // some hours of decode, libstdc++ 12 on x86-64: a thread slept though the epoch had moved on.
      // Twelve million barriers of a test made for it did not repeat it.)
      barrier_epoch_.store(epoch + 1, std::memory_order_seq_cst);
      barrier_epoch_.notify_all();
    } else {
      WaitForChange(barrier_epoch_, epoch);
    }
  }

 private:
  // About 30 microseconds: longer than the threads of a step are usually apart, much shorter than
  // the time slice that a descheduled thread would be waited for. Beside one busy loop on each
  // processor, decode keeps half of its speed with 2000 pauses and a tenth with 500, because
  // whoever goes to sleep at every barrier waits for a time slice at every barrier.
  static constexpr int kSpins = 2000;
  // More threads than processors: who spins keeps the one that it waits for from running. Three
  // threads on two processors decode 61 tokens/s with 100 pauses, 42 with 2000, 20 with 8000.
  static constexpr int kSpinsWhenCrowded = 100;

  void WaitForChange(const std::atomic<std::uint32_t>& value, std::uint32_t old) const {
    for (int i = 0; i < spins_; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      internal::SpinPause();
    }
    while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
  }

  void Publish() {
    job_epoch_.fetch_add(1, std::memory_order_seq_cst);  // see Barrier
    job_epoch_.notify_all();
  }

  void Work(std::size_t index) {
    // Epochs count from 0: a Run published before this thread got here is not missed.
    for (std::uint32_t epoch = 0;; ++epoch) {
      WaitForChange(job_epoch_, epoch);
      if (job_ == nullptr) return;
      job_(context_, index);
      Barrier();
    }
  }

  std::size_t size_ = 1;
  int spins_ = kSpins;
  std::vector<std::thread> workers_;
  void (*job_)(void*, std::size_t) = nullptr;  // published by job_epoch_
  void* context_ = nullptr;
  // On lines of their own: waiting threads poll them.
  alignas(64) std::atomic<std::uint32_t> job_epoch_{0};
  alignas(64) std::atomic<std::uint32_t> barrier_epoch_{0};
  alignas(64) std::atomic<std::size_t> arrived_{0};
};

// The part of `count` pieces of work that falls to `thread` of `threads`: [begin, end), all parts
// equal up to one piece.
struct Range {
  std::size_t begin, end;
};
constexpr Range PartOf(std::size_t count, std::size_t thread, std::size_t threads) {
  return {count * thread / threads, count * (thread + 1) / threads};
}

}  // namespace lapidary

#endif  // LAPIDARY_BASE_THREADS_H_
