"""Mathematics on plain arrays: clustering, graph cuts, merging, geodesics. Imports nothing of maskwright but its errors."""
