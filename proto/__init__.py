"""The exchange's wire messages: schema/ holds our .proto files, gen/ what `python -m proto.generate` makes of them."""
