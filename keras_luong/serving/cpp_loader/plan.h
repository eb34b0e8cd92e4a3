// What a soak asks: the models, their versions, and rows for their signatures.

#ifndef KERAS_LUONG_PLAN_H_
#define KERAS_LUONG_PLAN_H_

#include <istream>
#include <sstream>
#include <string>
#include <vector>

#include "model.h"
#include "process.h"
#include "requests.h"

namespace runner {

// A signature of a model and the rows that it is sent.
struct Question {
  size_t model;
  std::string signature, input_names;
  std::vector<std::string> lines;
  std::vector<Tensors> rows;
  std::vector<std::vector<Tensors>> alone;  // by version and row
};

struct Plan {
  std::vector<std::vector<std::string>> models;  // by model, the paths of its versions
  std::vector<Question> questions;
};

inline Question& FindOrAdd(Plan* plan, size_t model, const std::string& signature,
                           const std::string& input_names) {
  if (model >= plan->models.size()) Fail(kUsageError, "A row is for no model.");
  for (Question& question : plan->questions) {
    if (question.model == model && question.signature == signature) return question;
  }
  plan->questions.push_back({model, signature, input_names});
  return plan->questions.back();
}

inline Plan ReadPlan(std::istream& lines) {
  Plan plan;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string kind, signature, input_names, columns;
    size_t model = 0;
    words >> kind;
    if (kind == "model" && words >> columns) {
      plan.models.push_back(ParseColumn(columns));
    } else if (kind == "row" && words >> model >> signature >> input_names >> columns) {
      FindOrAdd(&plan, model, signature, input_names).lines.push_back(columns);
    } else {
      Fail(kUsageError, "A line is a model or a row, not " + line);
    }
  }
  if (plan.questions.empty()) Fail(kUsageError, "No rows to ask.");
  return plan;
}

}  // namespace runner

#endif  // KERAS_LUONG_PLAN_H_
