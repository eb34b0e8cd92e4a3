// What a thread of a soak asks, compares and counts.

#ifndef KERAS_LUONG_CLIENT_H_
#define KERAS_LUONG_CLIENT_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "batch.h"
#include "model.h"
#include "plan.h"
#include "same_row.h"
#include "servable.h"

namespace runner {

struct Counts {
  int64_t rows = 0, without_rows = 0, finished_on_old = 0, wrong = 0, failures = 0;
  std::map<std::string, int64_t> requests;  // by signature
  std::map<std::string, int64_t> errors;    // of flawed requests and those without time, by kind
  std::map<std::string, int64_t> forgiven;  // flawed requests that were answered, by kind
  std::string first_wrong, first_failure;
  double apart = 0;  // the largest distance of two numbers that should be one

  void Add(const Counts& other) {
    rows += other.rows;
    without_rows += other.without_rows;
    finished_on_old += other.finished_on_old;
    wrong += other.wrong;
    failures += other.failures;
    for (const auto& [name, count] : other.requests) requests[name] += count;
    for (const auto& [name, count] : other.errors) errors[name] += count;
    for (const auto& [name, count] : other.forgiven) forgiven[name] += count;
    if (first_wrong.empty()) first_wrong = other.first_wrong;
    if (first_failure.empty()) first_failure = other.first_failure;
    apart = std::max(apart, other.apart);
  }
};

// A thread that asks and compares.
class Client {
 public:
  Client(const Plan& plan, const Servables& servables, uint32_t seed)
      : plan_(plan), servables_(servables), random_(seed) {}

  void Ask() {
    const Question& question = plan_.questions[Below(plan_.questions.size())];
    std::vector<size_t> chosen(Rows());
    for (size_t& row : chosen) row = Below(question.rows.size());
    Tensors inputs = Stacked(question.rows, chosen);
    ++counts.requests[std::to_string(question.model) + " " + question.signature];
    const size_t kind = Below(10);
    const Flaw& flaw = Flaws()[Below(Flaws().size())];
    if (kind == 0 && flaw.add(&inputs)) {
      AskFlawed(question, flaw, inputs);
    } else {
      AskSound(question, chosen, inputs, kind == 1 ? 1 + Below(20) : 0);
    }
  }

  Counts counts;

 private:
  size_t Below(size_t end) { return random_() % end; }

  // Mostly few, as servers see them.
  size_t Rows() {
    static constexpr size_t kMost[] = {0, 1, 1, 1, 4, 4, 8, 8, 16, 50};
    const size_t most = kMost[Below(10)];
    return most <= 1 ? most : 1 + Below(most);
  }

  void AskFlawed(const Question& question, const Flaw& flaw, const Tensors& inputs) {
    Tensors outputs;
    const auto version = servables_[question.model]->Get();
    const absl::Status ran = version->Find(question).TryRun(inputs, 0, &outputs);
    if (ran.ok()) {
      ++counts.forgiven[question.signature + ": " + flaw.name];
    } else {
      ++counts.errors[flaw.name + (": " + absl::StatusCodeToString(ran.code()))];
    }
  }

  void AskSound(const Question& question, const std::vector<size_t>& chosen, const Tensors& inputs,
                int64_t timeout_ms) {
    Tensors outputs;
    const auto version = servables_[question.model]->Get();
    const absl::Status ran = version->Find(question).TryRun(inputs, timeout_ms, &outputs);
    counts.finished_on_old += version != servables_[question.model]->Get();
    if (ran.ok()) {
      counts.without_rows += chosen.empty();
      counts.rows += chosen.size();
      Compare(question, *version, outputs, chosen);
    } else if (timeout_ms && absl::IsDeadlineExceeded(ran)) {
      ++counts.errors["too little time: DEADLINE_EXCEEDED"];
    } else {
      ++counts.failures;
      if (counts.first_failure.empty()) {
        counts.first_failure = question.signature + ": " + std::string(ran.ToString());
      }
    }
  }

  void Compare(const Question& question, const Version& version, const Tensors& outputs,
               const std::vector<size_t>& chosen) {
    const std::vector<Tensors>& alone = question.alone[version.number];
    for (size_t i = 0; i < outputs.size(); ++i) {
      const bool has_rows = outputs[i].dim_size(0) == static_cast<int64_t>(chosen.size());
      if (!has_rows) CountWrong(question, version, i, "a batch of other rows");
      for (size_t row = 0; has_rows && row < chosen.size(); ++row) {
        if (!SameRow(outputs[i], row, alone[chosen[row]][i], &counts.apart)) {
          CountWrong(question, version, i, question.lines[chosen[row]]);
        }
      }
    }
  }

  void CountWrong(const Question& question, const Version& version, size_t output,
                  const std::string& row) {
    ++counts.wrong;
    if (!counts.first_wrong.empty()) return;
    counts.first_wrong = plan_.models[question.model][version.number] + ": " +
                         version.Find(question).output_names()[output] + " of " +
                         question.signature + " for " + row;
  }

  const Plan& plan_;
  const Servables& servables_;
  std::mt19937 random_;
};

}  // namespace runner

#endif  // KERAS_LUONG_CLIENT_H_
