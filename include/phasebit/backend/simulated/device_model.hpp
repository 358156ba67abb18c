// SPDX-License-Identifier: BSL-1.0
// The concept of a model inside a function of the fabric.
#pragma once

#include <concepts>
#include <cstdint>

namespace phasebit::backend::simulated {

// The device side of one function. At most one of these calls runs at a time for one model; the
// models of different functions run concurrently if the fabric has several device threads, and a
// slow model delays no register of another function.
//   read32, write32  registers of its register BAR, by offset; not those of its plain words and not
//                    MSI-X, which the fabric implements. A 64-bit register is its two halves
//   poll()           reads the plain words (doorbells) and does one bounded round of work;
//                    returns the amount of work, 0 if nothing was done
//   reset()          back to the state after power-on; no memory is touched any more. The words
//                    have been zeroed
template <class T>
concept DeviceModel = requires(T& model, std::uint32_t offset, std::uint32_t value) {
  { model.read32(offset) } noexcept -> std::same_as<std::uint32_t>;
  { model.write32(offset, value) } noexcept;
  { model.poll() } noexcept -> std::convertible_to<unsigned>;
  { model.reset() } noexcept;
};

}  // namespace phasebit::backend::simulated
