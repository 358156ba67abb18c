// SPDX-License-Identifier: BSL-1.0
// The media of a controller and their namespace identifiers.
#pragma once

#include <phasebit/block/null_media.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/nvme/device/concepts.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::nvme::device {

// Namespace 1 and no other. Keeps a reference.
template <block::AnyBlockMedia Media>
class single_namespace {
 public:
  using media_type = Media;

  explicit constexpr single_namespace(Media& media) noexcept : media_(&media) {}

  [[nodiscard]] constexpr Media* find(std::uint32_t nsid) const noexcept {
    return nsid == 1 ? media_ : nullptr;
  }
  [[nodiscard]] static constexpr std::uint32_t highest_nsid() noexcept { return 1; }
  template <class Visit>
  constexpr void for_each_media(Visit&& visit) noexcept {
    visit(*media_);
  }

 private:
  Media* media_;
};

static_assert(NamespaceSet<single_namespace<block::null_media>>);

// Namespaces 1 to Capacity, each there or not. Keeps references. Changed by the thread that polls
// the controller, and reported to it by controller::namespace_changed(). A namespace whose media
// complete later is removed in three steps: hide(), namespace_changed(), and detach() once
// controller::in_flight(nsid) is false.
template <block::AnyBlockMedia Media, std::size_t Capacity>
class namespace_table {
  static_assert(Capacity >= 1 && Capacity <= 1024, "a controller here has 1 to 1024 namespaces");

 public:
  using media_type = Media;

  // `nsid` is 1 to Capacity and not in use.
  constexpr void attach(std::uint32_t nsid, Media& media) noexcept {
    PHASEBIT_EXPECTS(nsid >= 1 && nsid <= Capacity, "no such namespace number");
    PHASEBIT_EXPECTS(media_[nsid - 1] == nullptr, "the namespace number is in use");
    media_[nsid - 1] = &media;
    hidden_[nsid - 1] = false;
    if (nsid > used_) used_ = nsid;
  }
  constexpr void detach(std::uint32_t nsid) noexcept {
    PHASEBIT_EXPECTS(nsid >= 1 && nsid <= Capacity, "no such namespace number");
    media_[nsid - 1] = nullptr;
    while (used_ != 0 && media_[used_ - 1] == nullptr) --used_;
  }
  // The host finds the namespace inactive; its media is polled until detach().
  constexpr void hide(std::uint32_t nsid) noexcept {
    PHASEBIT_EXPECTS(nsid >= 1 && nsid <= Capacity, "no such namespace number");
    hidden_[nsid - 1] = true;
  }

  [[nodiscard]] constexpr Media* find(std::uint32_t nsid) const noexcept {
    return nsid >= 1 && nsid <= Capacity && !hidden_[nsid - 1] ? media_[nsid - 1] : nullptr;
  }
  template <class Visit>
  constexpr void for_each_media(Visit&& visit) noexcept {
    for (std::uint32_t i = 0; i != used_; ++i) {
      if (media_[i] != nullptr) visit(*media_[i]);
    }
  }
  [[nodiscard]] static constexpr std::uint32_t highest_nsid() noexcept {
    return static_cast<std::uint32_t>(Capacity);
  }

 private:
  std::array<Media*, Capacity> media_{};
  std::array<bool, Capacity> hidden_{};
  std::uint32_t used_ = 0;  // no media above this number
};

static_assert(NamespaceSet<namespace_table<block::null_media, 2>>);

}  // namespace phasebit::nvme::device
