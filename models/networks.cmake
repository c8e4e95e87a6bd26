# The networks of the paper's Table 8: ShuffleNetV2's, and those that it is compared with.
set(full_size_networks shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0)
set(comparison_networks
  mobilenet_v1_x0_25 mobilenet_v1_x0_5 mobilenet_v1_x0_75 mobilenet_v1_x1_0
  mobilenet_v2_x0_4 mobilenet_v2_x0_15 mobilenet_v2_x0_75 mobilenet_v2_x0_6 mobilenet_v2_x1_0 mobilenet_v2_x1_4
  shufflenet_v1_x0_5 shufflenet_v1_x1_0 shufflenet_v1_x1_5 shufflenet_v1_x2_0
  xception_x0_5 xception_x1_0 xception_x1_5 xception_x2_0)
