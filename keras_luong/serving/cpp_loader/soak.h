// A soak: some threads ask random things of models whose versions change all the while, as in TF
// Serving, and all that comes back is checked.
//
// Lines are read, with columns of values as in requests:
//   model PATHS                                  the versions of a model, one path or more
//   row MODEL SIGNATURE INPUT_NAMES COLUMNS      a row for that model: 0 for the first one, ...
// Each row is asked alone of each version. Then, for some seconds, each thread sends batches of
// random rows (none, too) to random signatures and compares each row with what it is alone. One
// request in ten has a flaw, and one in ten is given a few milliseconds only.
//
// Every so many seconds the next version of a model, or the same one again, is loaded and warmed up
// beside the one that serves; new requests go to it, and the old one is unloaded when its last
// request is done: the availability-preserving policy. `swap` 0 leaves the versions as they are.
//
// A JSON object says what has been counted. "allocated" are the bytes that have been allocated and
// not freed, and "resident" those of memory that the process holds, which loading and unloading
// leaves full of holes: each second in which no version is being exchanged, between requests.

#ifndef KERAS_LUONG_SOAK_H_
#define KERAS_LUONG_SOAK_H_

#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <istream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "client.h"
#include "model.h"
#include "plan.h"
#include "process.h"
#include "replies.h"
#include "servable.h"

namespace runner {

// The clock of a soak.
class Timer {
 public:
  explicit Timer(double seconds) : seconds_(seconds) {}

  double Elapsed() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  }

  bool IsOver() const { return Elapsed() >= seconds_; }

  // Wakes up early when the soak is over.
  void Sleep(double seconds) const {
    const double until = std::min(Elapsed() + seconds, seconds_);
    std::this_thread::sleep_for(std::chrono::duration<double>(until - Elapsed()));
  }

 private:
  const double seconds_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

// At some moments between requests.
struct Memory {
  std::vector<int64_t> allocated, resident;

  // Nothing may grow while memory is measured.
  explicit Memory(size_t most) {
    allocated.reserve(most);
    resident.reserve(most);
  }

  void Measure() {
    allocated.push_back(AllocatedBytes());
    malloc_trim(0);
    resident.push_back(ResidentBytes());
  }
};

// Requests pass it, and it can be closed until none is under way.
class Gate {
 public:
  void Enter() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return !is_closed_; });
    ++inside_;
  }

  void Leave() {
    const std::lock_guard<std::mutex> lock(mutex_);
    --inside_;
    changed_.notify_all();
  }

  void Measure(Memory* memory) {
    std::unique_lock<std::mutex> lock(mutex_);
    is_closed_ = true;
    changed_.wait(lock, [this] { return inside_ == 0; });
    memory->Measure();
    is_closed_ = false;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_closed_ = false;
  int inside_ = 0;
};

// Brings another version of a model into service, and returns when the last one is unloaded.
inline void Swap(const Plan& plan, size_t model, Servable* servable) {
  const size_t next = (servable->Get()->number + 1) % plan.models[model].size();
  auto version = std::make_shared<const Version>(plan, model, next);
  for (const Question& question : plan.questions) {
    if (question.model == model) version->Find(question).Run(question.rows[0]);
  }
  const auto old = servable->Exchange(std::move(version));
  while (old.use_count() > 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

inline std::string Quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) quoted += c < ' ' || c > '~' || c == '"' || c == '\\' ? '?' : c;
  return quoted + '"';
}

inline std::string Json(const std::map<std::string, int64_t>& counts) {
  std::string json;
  for (const auto& [name, count] : counts) {
    json += (json.empty() ? "" : ", ") + Quoted(name) + ": " + Json(count);
  }
  return "{" + json + "}";
}

inline std::string Json(const std::vector<int64_t>& values) {
  std::string json;
  for (const int64_t value : values) json += (json.empty() ? "" : ", ") + Json(value);
  return "[" + json + "]";
}

inline std::string Json(const Counts& counts) {
  return "\"requests\": " + Json(counts.requests) + ", \"rows\": " + Json(counts.rows) +
         ", \"without_rows\": " + Json(counts.without_rows) +
         ", \"errors\": " + Json(counts.errors) + ", \"forgiven\": " + Json(counts.forgiven) +
         ", \"wrong\": " + Json(counts.wrong) + ", \"failures\": " + Json(counts.failures) +
         ", \"first_wrong\": " + Quoted(counts.first_wrong) +
         ", \"first_failure\": " + Quoted(counts.first_failure) +
         ", \"apart\": " + Json(counts.apart) +
         ", \"finished_on_old\": " + Json(counts.finished_on_old);
}

// Returns what has been counted.
inline std::string Soak(std::istream& lines, double seconds, double swap, int threads) {
  Plan plan = ReadPlan(lines);
  const Servables servables = Prepare(&plan);
  Memory memory(seconds + 10);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < threads; ++i) {
    clients.push_back(std::make_unique<Client>(plan, servables, i));
  }

  Gate gate;
  const Timer timer(seconds);
  std::vector<std::thread> running;
  for (const auto& client : clients) {
    running.emplace_back([&] {
      while (!timer.IsOver()) {
        gate.Enter();
        client->Ask();
        gate.Leave();
      }
    });
  }
  int64_t swaps = 0;
  std::mutex swapping;
  running.emplace_back([&] {
    for (size_t model = 0; swap > 0; model = (model + 1) % plan.models.size()) {
      timer.Sleep(swap);
      if (timer.IsOver()) break;
      const std::lock_guard<std::mutex> lock(swapping);
      Swap(plan, model, servables[model].get());
      ++swaps;
    }
  });
  for (; !timer.IsOver(); timer.Sleep(1)) {
    const std::unique_lock<std::mutex> lock(swapping, std::try_to_lock);
    if (lock) gate.Measure(&memory);
  }
  for (std::thread& thread : running) thread.join();

  Counts counts;
  for (const auto& client : clients) counts.Add(client->counts);
  return "{" + Json(counts) + ", \"swaps\": " + Json(swaps) +
         ", \"seconds\": " + Json(timer.Elapsed()) + ", \"allocated\": " + Json(memory.allocated) +
         ", \"resident\": " + Json(memory.resident) + "}";
}

}  // namespace runner

#endif  // KERAS_LUONG_SOAK_H_
