# SPDX-License-Identifier: BSL-1.0
#
# The rooms of the library: this table is the only place that names them. The targets, the
# components of the package and the layering check are all made from it.
#
# room | layer | folder below include/phasebit | rooms it may include and links
#
# A room exists once its folder (or <folder>.hpp) holds a header. `below` stands for every room of a
# lower layer. A room of the same layer is included only where it stands further up and is named.
set(PHASEBIT_ROOM_TABLE
  "core                 | 0 | core                 |"
  "memory               | 1 | memory               | core"
  "pcie                 | 2 | pcie                 | core memory"
  "block                | 2 | block                | core memory"
  "accel                | 2 | accel                | core memory"
  "iommu                | 3 | iommu                | core memory pcie"
  "nvme                 | 3 | nvme                 | core memory pcie block"
  "virtio               | 3 | virtio               | core memory pcie block"
  "sriov                | 3 | sriov                | core memory pcie"
  "backend_posix        | 4 | backend/posix        | core memory pcie"
  "backend_simulated    | 4 | backend/simulated    | core memory pcie block accel iommu nvme virtio sriov backend_posix"
  "backend_mmio         | 4 | backend/mmio         | core memory pcie"
  "backend_mmio_linux   | 4 | backend/mmio_linux   | core memory pcie backend_posix"
  "backend_vfio         | 4 | backend/vfio         | core memory pcie iommu sriov backend_posix"
  "backend_qtest        | 4 | backend/qtest        | core memory pcie backend_posix"
  "transport_vhost_user | 5 | transport/vhost_user | below"
  "transport_vfio_user  | 5 | transport/vfio_user  | below"
  "transport_nvme_tcp   | 5 | transport/nvme_tcp   | below"
  "systems              | 5 | systems              | below"
  "hosted               | 5 | hosted               | below"
)

# Layers up to this one are freestanding: no operating system, no heap, no exceptions.
set(PHASEBIT_LAST_FREESTANDING_LAYER 3)
