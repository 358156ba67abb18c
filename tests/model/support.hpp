// SPDX-License-Identifier: BSL-1.0
// Shared by the models of rings: the device's access to the memory of its driver, and the checks of
// a report.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/testing/explorer/explore.hpp>
#include <phasebit/testing/explorer/order.hpp>
#include <phasebit/testing/explorer/word.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

namespace model {

using namespace phasebit::testing;
using explorer::await;
using explorer::check;
using explorer::choose;
using explorer::memory_model;
using explorer::mutation;
using explorer::operation;
using explorer::options;
using explorer::program;
using explorer::report;

inline constexpr memory_model all_models[] = {memory_model::cpp20, memory_model::x86,
                                              memory_model::arm, memory_model::riscv};

// Explores under every model, to the end, without a failure. The number of executions is printed.
template <class Program>
void holds(const std::string& name, Program program, options wanted = {}) {
  std::string counts;
  for (const memory_model model : all_models) {
    wanted.model = model;
    const report r = explorer::explore(wanted, program);
    const std::string what = name + " under " + explorer::name_of(model) + ": " + r.text();
    INFO(what);
    CHECK(r.passed());
    counts += std::string{" "} + explorer::name_of(model) + " " + std::to_string(r.executions);
  }
  MESSAGE(name << ", executions:" << counts);
}

// Bus addresses that are this process's own: the explored program's memory lies at the same place in
// each execution.
template <class From = phasebit::bus_space>
struct same_address {
  using from = From;
  using to = phasebit::local_space;

  [[nodiscard]] static phasebit::result<phasebit::segment<to>> translate(
      phasebit::address<From> a, std::uint64_t bytes, phasebit::access) noexcept {
    return phasebit::segment<to>{phasebit::address<to>{a.value()}, bytes};
  }
};

// Zeroed memory for rings.
template <std::size_t Bytes>
struct aligned_bytes {
  alignas(64) std::array<std::byte, Bytes> bytes{};
};

// Objects of a program that have a long past when its threads begin, such as an index near 65535. The past
// is run once; later executions, whose memory lies at the same place, get its outcome as bytes.
class past {
 public:
  using parts = std::vector<std::span<std::byte>>;

  template <class Run>
  void operator()(const parts& objects, Run run) {
    if (saved_->first != objects.front().data()) {
      run();
      saved_->first = objects.front().data();
      saved_->second.clear();
      for (const auto part : objects) {
        saved_->second.insert(saved_->second.end(), part.begin(), part.end());
      }
      return;
    }
    const std::byte* from = saved_->second.data();
    for (const auto part : objects) {
      std::memcpy(part.data(), from, part.size());
      from += part.size();
    }
  }
  template <class T>
  [[nodiscard]] static std::span<std::byte> bytes_of(T& object) noexcept {
    return {reinterpret_cast<std::byte*>(&object), sizeof(T)};
  }

 private:
  std::shared_ptr<std::pair<std::byte*, std::vector<std::byte>>> saved_ =
      std::make_shared<std::pair<std::byte*, std::vector<std::byte>>>();
};

template <class T>
[[nodiscard]] phasebit::bus_addr bus_address_of(T& object) noexcept {
  return phasebit::bus_addr{reinterpret_cast<std::uintptr_t>(&object)};
}

}  // namespace model
