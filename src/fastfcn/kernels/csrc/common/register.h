// Macros that register an operator with torch, next to its definition.
#pragma once

#include <torch/library.h>

// Registers the function fastfcn::name as the CPU kernel of torch.ops.fastfcn.name. The operator's schema comes from
// its declaration in operators.py; torch checks it against the C++ function's types when both are loaded.
#define FASTFCN_OPERATOR(name) \
  TORCH_LIBRARY_IMPL(fastfcn, CPU, library) { library.impl(#name, TORCH_FN(name)); }

// Registers a function without tensor arguments, for every device. Its schema is inferred from the C++ function.
#define FASTFCN_FUNCTION(name) \
  TORCH_LIBRARY_FRAGMENT(fastfcn, library) { library.def(#name, TORCH_FN(name)); }
