-- One entry may move more on an account than 64 bits. Owner: platform-ledger. Sums of bigint are numeric here, so nothing is to do.
SELECT 1;
