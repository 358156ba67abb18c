// SPDX-License-Identifier: BSL-1.0
//
// Stands in for libFuzzer where it is not used: runs a fuzz target on the empty input, on every file
// of the folders given as arguments, and on mutations of them that are the same in every run.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes);

namespace {

using input = std::vector<std::uint8_t>;

std::vector<input> read_corpus(const char* folder) {
  std::vector<input> inputs;
  if (!std::filesystem::is_directory(folder)) return inputs;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return inputs;
}

void mutate(input& bytes, std::mt19937& random) {
  static constexpr std::array<std::uint8_t, 6> edges{0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff};
  const auto count = 1 + random() % 8;
  for (std::size_t i = 0; i < count && !bytes.empty(); ++i) {
    const auto at = random() % bytes.size();
    bytes[at] = random() % 2 == 0 ? edges[random() % edges.size()]
                                  : static_cast<std::uint8_t>(random() & 0xffU);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<input> corpus{{}};
  for (int i = 1; i < argc; ++i) {
    for (auto& one : read_corpus(argv[i])) corpus.push_back(std::move(one));
  }
  for (const auto& one : corpus) LLVMFuzzerTestOneInput(one.data(), one.size());

  std::mt19937 random(1);
  constexpr int rounds = 20000;
  for (int round = 0; round < rounds; ++round) {
    input bytes = corpus[random() % corpus.size()];
    if (bytes.empty()) bytes.resize(random() % 512);
    mutate(bytes, random);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%zu inputs of the corpus, %d mutations\n", corpus.size() - 1, rounds);
}
