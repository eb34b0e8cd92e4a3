// A loaded model and its signatures.

#ifndef KERAS_LUONG_MODEL_H_
#define KERAS_LUONG_MODEL_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "process.h"
#include "replies.h"
#include "requests.h"
#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/public/session.h"
#include "tensorflow/core/public/session_options.h"

namespace runner {

template <typename Map>
const typename Map::mapped_type& Find(const Map& map, const std::string& key,
                                      const std::string& what) {
  const auto found = map.find(key);
  if (found == map.end()) {
    std::string known;
    for (const auto& item : map) known += " \"" + item.first + "\"";
    Fail(kUsageError, "No " + what + " \"" + key + "\" in the model, which has" + known + ".");
  }
  return found->second;
}

// As the stock server does it. Closes the session when it goes.
inline std::unique_ptr<tensorflow::SavedModelBundle> Load(const std::string& model_dir) {
  auto bundle = std::make_unique<tensorflow::SavedModelBundle>();
  const absl::Status loaded = tensorflow::LoadSavedModel(
      tensorflow::SessionOptions(), tensorflow::RunOptions(), model_dir, {"serve"}, bundle.get());
  if (!loaded.ok()) Fail(kLoadError, loaded.ToString());
  return bundle;
}

// A tensor for each input of a signature, or for each of its outputs.
using Tensors = std::vector<tensorflow::Tensor>;

// A signature of a loaded model.
class Signature {
 public:
  Signature(const tensorflow::SavedModelBundle& bundle, const std::string& name,
            const std::string& input_names)
      : session_(bundle.GetSession()) {
    const auto& signature = Find(bundle.GetSignatures(), name, "signature");
    for (const std::string& input : Split(input_names, ',')) {
      inputs_.push_back(Find(signature.inputs(), input, "input"));
      if (!IsReadable(inputs_.back())) {
        Fail(kUsageError, "Input \"" + input + "\" has dtype " +
                              tensorflow::DataTypeString(inputs_.back().dtype()) + " and shape " +
                              inputs_.back().tensor_shape().ShortDebugString() +
                              ", which this program does not read.");
      }
    }
    // The order of a protocol buffer's map is another each time that a model is loaded.
    const std::map<std::string, tensorflow::TensorInfo> outputs(signature.outputs().begin(),
                                                                signature.outputs().end());
    for (const auto& output : outputs) {
      names_.push_back(output.first);
      fetches_.push_back(output.second.name());
    }
  }

  Tensors Parse(const std::string& line) const {
    const std::vector<std::string> columns = Split(line, ';');
    if (columns.size() != inputs_.size()) Fail(kUsageError, "A request has a column an input.");
    Tensors parsed;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      parsed.push_back(Batch(inputs_[i], ParseColumn(columns[i])));
    }
    return parsed;
  }

  // Any number of threads may be in here and in the next. Inputs that are not given are not fed.
  absl::Status TryRun(const Tensors& inputs, int64_t timeout_ms, Tensors* outputs) const {
    std::vector<std::pair<std::string, tensorflow::Tensor>> feeds;
    for (size_t i = 0; i < inputs.size(); ++i) feeds.emplace_back(inputs_[i].name(), inputs[i]);
    tensorflow::RunOptions options;
    options.set_timeout_in_ms(timeout_ms);
    return session_->Run(options, feeds, fetches_, {}, outputs, nullptr);
  }

  Tensors Run(const Tensors& inputs) const {
    Tensors outputs;
    const absl::Status ran = TryRun(inputs, /*timeout_ms=*/0, &outputs);
    if (!ran.ok()) Fail(kRunError, ran.ToString());
    return outputs;
  }

  const std::vector<std::string>& output_names() const { return names_; }

  std::string Reply(const Tensors& outputs) const {
    std::string reply = "{";
    for (size_t i = 0; i < names_.size(); ++i) {
      reply += (i ? ", \"" : "\"") + names_[i] + "\": " + JsonTensor(names_[i], outputs[i]);
    }
    return reply + "}";
  }

 private:
  tensorflow::Session* session_;
  std::vector<tensorflow::TensorInfo> inputs_;
  std::vector<std::string> names_, fetches_;
};

}  // namespace runner

#endif  // KERAS_LUONG_MODEL_H_
