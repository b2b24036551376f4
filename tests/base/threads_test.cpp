// The team of threads: every thread runs, barriers hold, work is divided completely.
#include "lapidary/base/threads.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <thread>
#include <vector>

#include "tests/support/catch.h"

namespace lapidary {
namespace {

TEST_CASE("a team calls the function once on every thread, the caller being thread 0") {
  for (std::size_t threads = 1; threads <= 5; ++threads) {  // more than this machine may have
    ThreadPool pool(threads);
    CAPTURE(threads);
    REQUIRE(pool.size() == threads);
    std::vector<int> calls(threads, 0);
    std::thread::id caller;
    for (int round = 0; round < 50; ++round) {
      pool.Run([&](std::size_t thread) {
        ++calls[thread];  // a thread writes its own only
        if (thread == 0) caller = std::this_thread::get_id();
      });
      for (std::size_t i = 0; i < threads; ++i) REQUIRE(calls[i] == round + 1);
    }
    CHECK(caller == std::this_thread::get_id());
  }
}

TEST_CASE("a barrier lets nobody through before all have arrived") {
  for (std::size_t threads = 1; threads <= 4; ++threads) {
    ThreadPool pool(threads);
    CAPTURE(threads);
    // Plain ints: what is written before a barrier must be seen by all behind it.
    std::vector<int> step(threads, 0);
    std::atomic<int> wrong = 0;
    constexpr int kSteps = 100;
    for (int round = 0; round < 5; ++round) {
      pool.Run([&](std::size_t thread) {
        for (int i = 0; i < kSteps; ++i) {
          step[thread] = round * kSteps + i;
          pool.Barrier();
          for (const int other : step) {
            if (other != round * kSteps + i) ++wrong;
          }
          pool.Barrier();
        }
      });
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("threads that wait long sleep and are woken") {
  // Longer than a thread spins: once at the barrier, once between two runs.
  ThreadPool pool(3);
  std::atomic<int> arrived = 0;
  for (int round = 0; round < 3; ++round) {
    pool.Run([&](std::size_t thread) {
      if (thread == static_cast<std::size_t>(round)) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      pool.Barrier();
      ++arrived;
    });
    CHECK(arrived == 3 * (round + 1));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

TEST_CASE("teams start and end without work, and at any time") {
  for (int round = 0; round < 20; ++round) {
    ThreadPool idle(3);
    ThreadPool busy(3);
    int sum = 0;
    busy.Run([&](std::size_t thread) {
      if (thread == 0) sum = 1;
    });
    CHECK(sum == 1);
  }
}

TEST_CASE("several teams work side by side") {
  std::vector<std::thread> users;
  std::atomic<int> total = 0;
  for (int user = 0; user < 3; ++user) {
    users.emplace_back([&] {
      ThreadPool pool(2);
      for (int i = 0; i < 100; ++i) {
        pool.Run([&](std::size_t) {
          ++total;
          pool.Barrier();
        });
      }
    });
  }
  for (std::thread& user : users) user.join();
  CHECK(total == 3 * 100 * 2);
}

TEST_CASE("the default is a positive number of threads") {
  CHECK(DefaultThreads() >= 1);
  CHECK(ThreadPool(0).size() == DefaultThreads());
}

TEST_CASE("work is divided completely, in order, and evenly") {
  for (std::size_t threads = 1; threads <= 9; ++threads) {
    for (const std::size_t count : {0, 1, 2, 7, 8, 9, 100, 8193}) {
      std::size_t next = 0;
      bool fair = true;
      for (std::size_t i = 0; i < threads; ++i) {
        const Range part = PartOf(count, i, threads);
        fair = fair && part.begin == next && part.end >= part.begin;
        const std::size_t size = part.end - part.begin;
        fair = fair && size >= count / threads && size <= (count + threads - 1) / threads;
        next = part.end;
      }
      CAPTURE(threads, count);
      CHECK(fair);
      CHECK(next == count);
    }
  }
}

}  // namespace
}  // namespace lapidary
