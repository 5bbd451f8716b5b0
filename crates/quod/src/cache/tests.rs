//! One test for each point of the contract, then a property test against a plain model.
