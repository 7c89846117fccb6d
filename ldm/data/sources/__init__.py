"""Sources of captioned pictures, one file each: drawn shapes, scanned digits, a user's folder."""
