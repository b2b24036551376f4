#include "../any_model-inl.h"

template lapidary::Result<std::unique_ptr<lapidary::cli::AnyModel>>
lapidary::cli::OpenModel<lapidary::Gemma3_270M>(const std::filesystem::path&, const ModelOptions&);
