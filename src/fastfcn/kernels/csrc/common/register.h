// Registration of operators with torch, next to their definitions.
#pragma once

#include <torch/library.h>

// Makes the function fastfcn::name the CPU kernel of torch.ops.fastfcn.name. The operator's schema comes from its
// declaration in operators.py; torch compares it with the types of the C++ function when the library is loaded.
#define FASTFCN_OPERATOR(name) \
  TORCH_LIBRARY_IMPL(fastfcn, CPU, library) { library.impl(#name, TORCH_FN(name)); }

// The same for a function without tensors, for which no device can be chosen: its schema is that of the C++ function.
#define FASTFCN_FUNCTION(name) \
  TORCH_LIBRARY_FRAGMENT(fastfcn, library) { library.def(#name, TORCH_FN(name)); }
