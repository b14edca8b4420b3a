// Machines that experiments are meant for: values of the `cluster` group.
//
//   { cluster: clusters.h200(nodes=2) }
local gpu(accelerator, devices_per_node) = function(nodes=1) {
  accelerator: accelerator,
  num_nodes: nodes,
  devices_per_node: devices_per_node,
};
{
  // One process on the machine at hand.
  cpu: { accelerator: 'cpu', num_nodes: 1, devices_per_node: 1 },
  a100: gpu('a100', 8),
  h100: gpu('h100', 8),
  h200: gpu('h200', 8),
  b200: gpu('b200', 8),
}
