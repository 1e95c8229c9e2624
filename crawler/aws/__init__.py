"""Amazon Web Services: the only room that imports aiobotocore, botocore and aiohttp.

`registries.AwsRegistries` is the door. Behind it one HTTP pool (`http`) serves every identity, and each request
carries its own signature (`signing`) made with keys that are fetched once for all who wait (`keys`). What botocore
knows better than we do stays its own: credential chains and config files (`session`), endpoint rules and service
models (`api`). One table (`errors`) turns AWS's errors into ours.
"""

from crawler.aws.config_files import ConfigFiles
from crawler.aws.regions import known_regions
from crawler.aws.registries import AwsRegistries

__all__ = ["AwsRegistries", "ConfigFiles", "known_regions"]
