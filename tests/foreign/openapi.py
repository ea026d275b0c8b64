"""Every committed OpenAPI document is valid OpenAPI 3.1, by a validator that is not ours, and says what its JSON twin says."""

import json
import pathlib

import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

FOLDER = pathlib.Path(__file__).parents[2] / "contracts" / "openapi"

documents = sorted(FOLDER.glob("**/*.yaml"))
assert len(documents) > 5, f"{FOLDER} holds {len(documents)} documents"
for path in documents:
    document = yaml.safe_load(path.read_text())
    errors = [f"{path}: {error.message}" for error in OpenAPIV31SpecValidator(document).iter_errors()]
    assert not errors, "\n".join(errors)
bundle = json.loads((FOLDER / "tallystick.json").read_text())
assert yaml.safe_load((FOLDER / "tallystick.yaml").read_text()) == bundle, "tallystick.yaml and tallystick.json differ"
# A validator that accepts everything proves nothing.
bundle["paths"]["/v1/usage"]["get"]["parameters"][0]["in"] = "nowhere"
assert list(OpenAPIV31SpecValidator(bundle).iter_errors()), "a parameter that is nowhere was accepted"
print(f"{len(documents)} OpenAPI documents are valid")
