// Models whose versions can be exchanged while they serve.

#ifndef KERAS_LUONG_SERVABLE_H_
#define KERAS_LUONG_SERVABLE_H_

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "model.h"
#include "plan.h"

namespace runner {

// A loaded version of a model, with those of its signatures that are asked.
class Version {
 public:
  Version(const Plan& plan, size_t model, size_t number)
      : number(number), bundle_(Load(plan.models[model][number])) {
    for (const Question& question : plan.questions) {
      if (question.model == model) {
        signatures_.try_emplace(question.signature, *bundle_, question.signature,
                                question.input_names);
      }
    }
  }

  const Signature& Find(const Question& question) const {
    return signatures_.at(question.signature);
  }

  const size_t number;

 private:
  std::unique_ptr<tensorflow::SavedModelBundle> bundle_;
  std::map<std::string, Signature> signatures_;
};

// A model as a server has it: requests come in while its version changes.
class Servable {
 public:
  explicit Servable(std::shared_ptr<const Version> version) : version_(std::move(version)) {}

  // A request holds it until it is done.
  std::shared_ptr<const Version> Get() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return version_;
  }

  // Returns the one that has served until now.
  std::shared_ptr<const Version> Exchange(std::shared_ptr<const Version> next) {
    const std::lock_guard<std::mutex> lock(mutex_);
    version_.swap(next);
    return next;
  }

 private:
  std::mutex mutex_;
  std::shared_ptr<const Version> version_;
};

// By model.
using Servables = std::vector<std::unique_ptr<Servable>>;

// Asks a version each row alone.
inline void AskAlone(Plan* plan, const Version& version, size_t model) {
  for (Question& question : plan->questions) {
    if (question.model != model) continue;
    const Signature& signature = version.Find(question);
    if (question.rows.empty()) {
      for (const auto& line : question.lines) question.rows.push_back(signature.Parse(line));
    }
    question.alone.emplace_back();
    for (const Tensors& row : question.rows) question.alone.back().push_back(signature.Run(row));
  }
}

// Asks each version each row alone. The first version of each model then stays in service.
inline Servables Prepare(Plan* plan) {
  Servables servables;
  for (size_t model = 0; model < plan->models.size(); ++model) {
    for (size_t number = 0; number < plan->models[model].size(); ++number) {
      auto version = std::make_shared<const Version>(*plan, model, number);
      AskAlone(plan, *version, model);
      if (number == 0) servables.push_back(std::make_unique<Servable>(std::move(version)));
    }
  }
  return servables;
}

}  // namespace runner

#endif  // KERAS_LUONG_SERVABLE_H_
