// AWS SDK for Go v2: one client, the paginators it ships, 50 repositories in flight.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
)

const inFlight = 50

type row struct {
	RegistryID     *string `json:"registryId"`
	Region         string  `json:"region"`
	RepositoryName *string `json:"repositoryName"`
	ImageDigest    *string `json:"imageDigest"`
	ImageTag       *string `json:"imageTag"`
}

func main() {
	background := context.Background()
	// The SDK keeps 10 idle connections to a host: with 50 in flight it would open new ones all the time.
	pool := awshttp.NewBuildableClient().WithTransportOptions(func(transport *http.Transport) {
		transport.MaxIdleConnsPerHost = inFlight
	})
	configuration, err := config.LoadDefaultConfig(background, config.WithHTTPClient(pool))
	check(err)
	client := ecr.NewFromConfig(configuration, func(options *ecr.Options) {
		// Debian's version is older than AWS_ENDPOINT_URL.
		options.EndpointResolver = ecr.EndpointResolverFromURL(os.Getenv("AWS_ENDPOINT_URL"))
	})
	repositories := make(chan types.Repository, inFlight)
	var out sync.Mutex
	var workers sync.WaitGroup
	for range [inFlight]struct{}{} {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for repository := range repositories {
				listImages(background, client, configuration.Region, repository, &out)
			}
		}()
	}
	listing := ecr.NewDescribeRepositoriesPaginator(client, &ecr.DescribeRepositoriesInput{MaxResults: aws.Int32(1000)})
	for listing.HasMorePages() {
		page, err := listing.NextPage(background)
		check(err)
		for _, repository := range page.Repositories {
			repositories <- repository
		}
	}
	close(repositories)
	workers.Wait()
}

func listImages(ctx context.Context, client *ecr.Client, region string, repository types.Repository, out *sync.Mutex) {
	pages := ecr.NewListImagesPaginator(client, &ecr.ListImagesInput{
		RepositoryName: repository.RepositoryName, MaxResults: aws.Int32(1000),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		check(err)
		out.Lock()
		writer := bufio.NewWriterSize(os.Stdout, 1<<18)
		lines := json.NewEncoder(writer)
		for _, image := range page.ImageIds {
			check(lines.Encode(row{repository.RegistryId, region, repository.RepositoryName, image.ImageDigest, image.ImageTag}))
		}
		check(writer.Flush())
		out.Unlock()
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
