// in_cpp INPUTS: two models of an exported network, each with threads of its own; prints the output of the first.
#include <algorithm>
#include <array>
#include <fstream>
#include <future>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <vector>

#include "tagged.h"

namespace {

using Output = std::array<float, TAGGED_OUTPUT_ELEMENTS>;

struct Free {
  void operator()(tagged_model *model) const { tagged_free(model); }
};
using Model = std::unique_ptr<tagged_model, Free>;

Model prepared() {
  tagged_model *model = nullptr;
  std::array<char, 256> message{};
  if (tagged_prepare(&model, TAGGED_INTERFACE, TAGGED_WEIGHTS, message.data(), message.size()) != TAGGED_OK)
    throw std::runtime_error(message.data());
  return Model(model);
}

}  // namespace

int main(int count, char **arguments) {
  std::vector<float> image(TAGGED_IMAGE_ELEMENTS);
  std::vector<std::int64_t> words(TAGGED_WORDS_ELEMENTS);
  std::ifstream file(count == 2 ? arguments[1] : "", std::ios::binary);
  file.read(reinterpret_cast<char *>(image.data()), TAGGED_IMAGE_BYTES);
  file.read(reinterpret_cast<char *>(words.data()), TAGGED_WORDS_BYTES);
  if (!file) return 2;

  const std::array<Model, 2> models{prepared(), prepared()};
  std::vector<std::future<Output>> calls;
  for (int k = 0; k < 8; k++)
    calls.push_back(std::async(std::launch::async, [&, k] {
      Output output{};
      for (int n = 0; n < 50; n++)
        if (tagged_run(models[k % 2].get(), image.data(), words.data(), output.data()) != TAGGED_OK) return Output{};
      return output;
    }));
  std::vector<Output> outputs;
  for (auto &call : calls) outputs.push_back(call.get());
  if (std::any_of(outputs.begin(), outputs.end(), [&](const Output &o) { return o != outputs[0]; })) return 3;
  std::cout.precision(9);
  for (float each : outputs[0]) std::cout << each << ' ';
  std::cout << '\n';
}
